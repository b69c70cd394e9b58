"""An evaluation that is killed or stopped goes on where it stood, to the same numbers; ranks change none."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rank_processes import on_ranks
from test_resume import die_at_call, run_and_die
from test_signals import in_child
from tiny import TINY_MOCO, clip_grid, moco_grid

from analysis.read.results import load
from benchmark import signals
from benchmark.evaluate import cache, saved
from benchmark.evaluate import run as evaluation
from benchmark.evaluate.entry import Entry
from benchmark.evaluate.saved import Saved
from benchmark.job import process, requeue, work
from benchmark.plan.plan import PlannedRun
from benchmark.runs.attempts import attempts_of, is_idle
from benchmark.runs.record import read_record
from benchmark.runs.state import state_of

pytestmark = pytest.mark.slow

Plan = Callable[..., list[PlannedRun]]
DIGITS = {"subset": {"of": "digits", "num_samples": 90}}
KNN = {"knn": {"dataset": DIGITS}}
PROBE = {"linear_probe": {"dataset": DIGITS, "recipe": "moco", "epochs": 12, "flip": False}}
FINETUNE = {"finetune": {"dataset": DIGITS, "recipe": "deit_transfer", "epochs": 4, "batch_size": 32, "lr": 0.01}}
MODEL = {"tiny": {**TINY_MOCO["tiny"], "depth": 2}}  # the second block has stochastic depth in fine-tuning
GRID = moco_grid(model=MODEL, train={"epochs": 1}, evaluate=[KNN, PROBE, FINETUNE])


def rows(run: PlannedRun) -> tuple[list[dict[str, Any]], list[str]]:
    """What was measured, and of which tasks the record knows."""
    record = read_record(run.folder / "record.json")
    return record["metrics"], [task["name"] for task in record["config"]["evaluate"]]


def predicted(run: PlannedRun) -> dict[str, bytes]:
    """Item by item."""
    with zipfile.ZipFile(run.folder / "predictions.npz") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def whole(planned: Plan) -> PlannedRun:
    """The run, never interrupted."""
    (run,) = planned(GRID, results="whole")
    assert process.run(run.folder) == "done"
    return run


def test_a_run_has_its_record_when_its_training_ends_and_its_metrics_task_by_task(
    planned: Plan, whole: PlannedRun
) -> None:
    (run,) = planned(GRID)
    run_and_die(run.folder, die_at_call(evaluation, "_outcome", 0))
    assert rows(run) == ([], [])
    assert read_record(run.folder / "record.json")["training"]["epochs"] == 1
    state = state_of(run.folder, run.config)
    assert (state.name, state.detail) == ("partial", "evaluation is missing")
    run_and_die(run.folder, die_at_call(evaluation, "_outcome", 1))
    assert rows(run)[1] == ["knn"]
    assert state_of(run.folder, run.config).name == "partial"
    (told,) = load(run.folder.parent.parent, []).problems
    assert "its evaluation is not done: linear_probe, finetune missing" in told.message
    monkey = pytest.MonkeyPatch()
    monkey.setattr(work, "_train", lambda *_: pytest.fail("it was trained again"))
    assert process.run(run.folder) == "done"
    monkey.undo()
    assert (rows(run), predicted(run)) == (rows(whole), predicted(whole))
    record = read_record(run.folder / "record.json")
    later = [task["name"] for one in record["later_evaluations"] for task in one["tasks"]]
    assert later == ["knn", "linear_probe", "finetune"]
    assert [one["task"] for one in record["evaluation_seconds"]] == ["knn", "linear_probe", "finetune"]
    assert "later_evaluations" not in read_record(whole.folder / "record.json")


@pytest.mark.parametrize("step", [0, 5, 11, 14])
def test_killed_at_a_step_of_the_probe_or_of_fine_tuning(planned: Plan, whole: PlannedRun, step: int) -> None:
    (run,) = planned(GRID)

    def arm() -> None:
        saved._MINUTES = 0.0
        die_at_call(Saved, "after", step)()

    run_and_die(run.folder, arm)
    assert len(list((run.folder / "evaluating").glob("*.pt"))) == (step not in (0, 12))
    positions: list[tuple[int, int]] = []
    monkey = pytest.MonkeyPatch()
    load = Saved.load
    monkey.setattr(Saved, "load", lambda self: positions.append(load(self)) or positions[-1])
    assert process.run(run.folder) == "done"
    monkey.undo()
    assert positions[0] == {0: (0, 0), 5: (4, 1), 11: (10, 1), 14: (0, 2)}[step]
    assert (rows(run), predicted(run)) == (rows(whole), predicted(whole))
    assert not (run.folder / "evaluating").exists()


def test_what_was_saved_and_is_damaged_costs_a_warning_and_no_number(
    planned: Plan, whole: PlannedRun, caplog: pytest.LogCaptureFixture
) -> None:
    (run,) = planned(GRID)

    def arm() -> None:
        saved._MINUTES = 0.0
        die_at_call(Saved, "after", 5)()

    run_and_die(run.folder, arm)
    (file,) = (run.folder / "evaluating").glob("*.pt")
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(content)
    assert process.run(run.folder) == "done"
    assert "damaged" in caplog.text
    assert rows(run) == rows(whole)


def test_features_that_were_encoded_before_a_kill_are_not_encoded_again(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "CHUNK", 20)
    grid = {**GRID, "evaluate": [KNN]}
    (whole,), (run,) = planned(grid, results="whole"), planned(grid)
    assert process.run(whole.folder) == "done"
    run_and_die(run.folder, die_at_call(Entry, "write", 3))  # three parts of five lie there
    written: list[int] = []
    write = Entry.write
    monkeypatch.setattr(
        Entry, "write", lambda self, part, found: written.append(part.start) or write(self, part, found)
    )
    assert process.run(run.folder) == "done"
    assert written[:2] == [60, 80]
    assert (rows(run), predicted(run)) == (rows(whole), predicted(whole))
    files = {path.name: path.read_bytes() for path in (run.folder / "features").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (whole.folder / "features").iterdir()}


def test_a_signal_within_the_probe_saves_and_the_job_is_not_idle(planned: Plan, whole: PlannedRun) -> None:
    (run,) = planned(GRID)
    for step in (3, 2, 1):

        def stopped(step: int = step) -> None:
            os.environ["SLURM_JOB_ID"] = "7"
            after, calls = Saved.after, iter(range(10**6))

            def asking(self: Saved, epoch: int, at: int, asked: int) -> None:
                if next(calls) == step:
                    os.kill(os.getpid(), signal.SIGUSR2)
                after(self, epoch, at, asked)

            Saved.after = asking  # type: ignore[method-assign]
            requeue.jobs.facts = lambda _job: {"JobState": "PENDING"}
            process.start(str(run.folder))

        assert in_child(stopped) == requeue.STOPPED
    assert [a.why for a in attempts_of(run.folder)] == ["stopped by USR2 or USR1"] * 3
    assert not is_idle(run.folder, "7")
    assert rows(run)[1] == ["knn"]
    assert process.run(run.folder) == "done"
    assert (rows(run), predicted(run)) == (rows(whole), predicted(whole))


def evaluated(planned: Plan, grid: dict[str, Any], ranks: int, chunk: int) -> PlannedRun:
    """A run that one rank has trained and ``ranks`` have evaluated; the feature files lie in its folder."""
    (run,) = planned(grid, results=f"ranks-{ranks}")
    run_and_die(run.folder, die_at_call(evaluation, "_outcome", 0))

    def measure(_rank: int) -> str:
        cache.CHUNK = chunk
        return process.run(run.folder)

    assert on_ranks(ranks, measure, seconds=120) == ["done"] * ranks
    return run


def test_two_ranks_encode_and_count_what_one_does(planned: Plan) -> None:
    shapes = {"subset": {"of": "shapes", "num_samples": 60}}
    tasks = [
        {"zero_shot": {"dataset": shapes}},
        {"retrieval": {"dataset": shapes}},
        {"few_shot": {"dataset": DIGITS, "shots": [1], "draws": 1, "solver": "torch"}},
        {"linear_probe": {"dataset": DIGITS, "recipe": "clip_benchmark", "epochs": 1}},
        KNN,
    ]
    grid = clip_grid(train={"epochs": 1, "num_workers": 1}, evaluate=tasks)
    one, two = (evaluated(planned, grid, ranks, 17) for ranks in (1, 2))
    assert (rows(one), predicted(one)) == (rows(two), predicted(two))
    features = [{p.name: p.read_bytes() for p in (run.folder / "features").iterdir()} for run in (one, two)]
    assert features[0] == features[1]


def test_ranks_stop_together_within_a_probe_and_go_on_as_one(planned: Plan, whole: PlannedRun) -> None:
    (run,) = planned(GRID)
    run_and_die(run.folder, die_at_call(evaluation, "_outcome", 1))

    def measure(rank: int) -> str:
        after, calls = Saved.after, iter(range(10**6))

        def asking(self: Saved, epoch: int, at: int, asked: int) -> None:
            if next(calls) == 3 and rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            after(self, epoch, at, asked)

        Saved.after = asking  # type: ignore[method-assign]
        with signals.listening():
            try:
                return process.run(run.folder)
            except signals.Stopped as stopped:
                return f"stopped {stopped.how} {len(list((run.folder / 'evaluating').glob('*.pt')))}"

    assert on_ranks(2, measure, seconds=60) == [f"stopped {signals.TERM} 1"] * 2
    assert process.run(run.folder) == "done"
    for a, b in zip(rows(run)[0], rows(whole)[0], strict=True):
        assert a["value"] == pytest.approx(b["value"], abs=0.05)  # a rounding may turn an image or two
    assert json.loads((run.folder / "record.json").read_text())["later_evaluations"]
    assert np.isfinite([row["value"] for row in rows(run)[0]]).all()
