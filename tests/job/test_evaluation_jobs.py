"""The evaluation as a job of its own (``launch.evaluate``): planned, started, shown, taken up and taken over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweeping import call, shown
from test_resume import die_at_call, run_and_die
from tiny import clip_grid

from benchmark.config.evaluation import EvaluationConfig
from benchmark.config.job import load_config
from benchmark.config.sweepfile import read_sweep
from benchmark.evaluate import run as evaluation
from benchmark.job import process, work
from benchmark.launch.todo import choose
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun, make_plan
from benchmark.runs.attempts import attempts_of
from benchmark.runs.record import read_record

WriteSweep = Callable[..., Path]
Plan = Callable[..., list[PlannedRun]]
SHAPES = {"subset": {"of": "shapes", "num_samples": 40}}
TASKS = [{"zero_shot": {"dataset": SHAPES}}, {"retrieval": {"dataset": SHAPES}}]


def short(**changes: Any) -> dict[str, Any]:
    launch = {"evaluate": {"minutes": 90}}
    return clip_grid(**{"train": {"epochs": 1}, "evaluate": TASKS, "launch": launch, **changes})


def states(path: Path) -> list[str]:
    return [run.state.name for run in make_plan(read_sweep(path), path.parent / "results")]


def test_it_has_the_training_s_resources_but_for_those_it_names(planned: Plan) -> None:
    launch = {"nodes": 2, "gpus": 4, "cpus": 6, "partition": "big", "evaluate": {"gpus": 1, "minutes": 2880}}
    run, job = planned(short(launch=launch))
    assert (run.config.launch.nodes, run.config.launch.num_ranks) == (2, 8)
    asked = job.config.launch
    assert (asked.nodes, asked.num_ranks, asked.cpus, asked.minutes, asked.partition) == (1, 1, 6, 2880, "big")
    assert job.config.name == f"evaluate-{run.config.name}"
    assert job.config.waits_for == (run.config.name,)
    assert load_config(job.folder.config) == job.config
    alone = planned(short(launch={}), results="alone")
    assert [one.config.name for one in alone] == [run.config.name]  # no part of a run's identity
    assert len(planned(short(evaluate=[]), results="nothing")) == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"gpuz": 1}, "evaluate.gpuz: unknown option; did you mean 'gpus'"),
        ({"minutes": 0}, "evaluate: minutes must be at least 1"),
        ({"evaluate": {"gpus": 1}}, "evaluate must be options but itself"),
    ],
)
def test_a_wrong_option_is_told_when_the_sweep_is_read(asked: dict[str, Any], said: str, planned: Plan) -> None:
    with pytest.raises(ConfigError, match=said):
        planned(short(launch={"evaluate": asked}))


def test_who_chooses_a_run_chooses_its_evaluation(planned: Plan) -> None:
    runs = planned(short(seed=[0, 1]))
    first, second = (run.config.name for run in runs if not isinstance(run.config, EvaluationConfig))
    assert choose(runs, [first]) == {first, f"evaluate-{first}"}
    assert choose(runs, [f"evaluate-{second}"]) == {second, f"evaluate-{second}"}


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["inline", "local"])
def test_it_measures_after_the_training_what_the_run_s_own_job_would(
    write_sweep: WriteSweep, planned: Plan, capsys: pytest.CaptureFixture[str], cluster: str
) -> None:
    path = write_sweep(short(), name="apart")
    assert call(path, "--cluster", cluster) == 0
    (record,) = path.parent.glob("results/apart/*/record.json")
    (alone,) = planned(short(launch={}), results="alone")
    assert process.run(alone.folder) == "done"
    found, expected = read_record(record), read_record(alone.folder / "record.json")
    assert found["metrics"] == expected["metrics"]
    assert found["config"]["evaluate"] == expected["config"]["evaluate"]
    (later,) = found["later_evaluations"]
    assert [task["name"] for task in later["tasks"]] == ["zero_shot", "retrieval"]
    assert states(path) == ["done", "done"]
    assert "2 runs, 2 done" in shown(path, capsys)


@pytest.mark.slow
def test_a_failed_or_killed_one_leaves_the_trained_run_done_and_goes_on(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, job = planned(short())
    assert process.run(run.folder) == "done"
    path = run.folder.parent.parent.parent / "tiny.yaml"
    assert read_record(run.folder / "record.json")["metrics"] == []
    assert states(path) == ["done", "absent"]
    run_and_die(job.folder, die_at_call(evaluation, "_outcome", 1))
    assert states(path) == ["done", "partial"]
    monkeypatch.setattr(work, "_train", lambda *_: pytest.fail("it was trained again"))
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "load_model", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            process.run(job.folder)
    assert states(path) == ["done", "failed"]
    assert (call(path, "--cluster", "inline"), call(path, "--cluster", "inline", "--retry")) == (1, 0)
    assert states(path) == ["done", "done"]
    later = read_record(run.folder / "record.json")["later_evaluations"]
    assert [task["name"] for one in later for task in one["tasks"]] == ["zero_shot", "retrieval"]
    assert len(attempts_of(job.folder)) == 3


@pytest.mark.slow
def test_one_that_is_started_by_hand_before_the_training_says_so(planned: Plan) -> None:
    _, job = planned(short())
    with pytest.raises(ConfigError, match="it has to be trained first"):
        process.run(job.folder)


@pytest.mark.slow
def test_of_a_run_that_is_taken_over_it_adds_what_the_other_sweep_did_not_ask_for(
    write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_sweep(short(evaluate=TASKS[:1]), name="first")
    assert call(first, "--cluster", "inline") == 0
    second = write_sweep(short(), name="second")
    monkeypatch.setattr(work, "_train", lambda *_: pytest.fail("it was trained again"))
    assert call(second, "--cluster", "inline") == 0
    (record,) = first.parent.glob("results/*/*/record.json")
    assert record.parent.parent.name == "first"
    assert [task["name"] for task in read_record(record)["config"]["evaluate"]] == ["zero_shot", "retrieval"]
    assert (states(first), states(second)) == (["done", "done"], ["done", "done"])
