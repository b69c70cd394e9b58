"""Runs that wait for other runs: a coreset is planned with the run that leaves it, and started after it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY_CLIP, clip_grid

from benchmark import sweep
from benchmark.config.sweepfile import read_sweep
from benchmark.coreset.coreset import load_coreset
from benchmark.job import process, work
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun, make_plan
from benchmark.runs.record import read_record
from benchmark.status.standing import with_states

Plan = Callable[..., list[PlannedRun]]
WriteSweep = Callable[..., Path]
SCAN: dict[str, Any] = {"scan": {"warmup_threshold": 1.0}}
OF_SCAN = {"coreset": {"runs": {"pruner": SCAN}, "keep_fraction": 0.5}}
OTHER = {"other": TINY_CLIP["tiny"]}


def coreset_grid(**changes: Any) -> dict[str, Any]:
    """The coreset is asked for before the run that makes it."""
    return clip_grid(**{"pruner": [OF_SCAN, SCAN], "train": {"epochs": 3}, **changes})


def run_sweep(path: Path, *words: str) -> int:
    return sweep.main([str(path), "--results", str(path.parent / "results"), *words])


def records(path: Path) -> dict[str, dict[str, Any]]:
    found = [read_record(p) for p in path.parent.glob("results/*/*/record.json")]
    return {f"{r['method']} s{r['seed']}": r for r in found}


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["inline", "local"])
def test_a_run_starts_after_the_run_it_waits_for_and_trains_on_its_coreset(
    write_sweep: WriteSweep, cluster: str
) -> None:
    path = write_sweep(coreset_grid(seed=[0, 1] if cluster == "inline" else 0))
    assert run_sweep(path, "--cluster", cluster) == 0
    found = records(path)
    label = "coreset(runs=scan(warmup_threshold=1.0), keep_fraction=0.5)"
    for seed in (0, 1) if cluster == "inline" else (0,):
        made, used = found[f"scan(warmup_threshold=1.0) s{seed}"], found[f"{label} s{seed}"]
        assert used["started"] >= made["finished"]
        assert {row["kept"] for row in used["training"]["by_epoch"]} == {32}
        source = load_coreset(path.parent / "results" / "tiny" / made["run"] / "coreset.npz")
        mine = load_coreset(path.parent / "results" / "tiny" / used["run"] / "coreset.npz")
        assert source.score is not None
        assert (mine.keep == source.cut(0.5)).all()
        assert used["config"]["waits_for"] == [made["run"]]


def test_an_ensemble_waits_for_all_its_runs(planned: Plan) -> None:
    ensemble = {"coreset": {"runs": {"pruner": SCAN, "model": [TINY_CLIP, OTHER], "seed": [0, 1]}}}
    runs = planned(
        clip_grid(model=[TINY_CLIP, OTHER], pruner=SCAN, seed=[0, 1]), clip_grid(pruner=ensemble, seed=[0, 1, 2])
    )
    scans, coresets = runs[:4], runs[4:]
    assert len(coresets) == 3
    for run in coresets:
        assert sorted(run.config.waits_for) == sorted(r.config.name for r in scans)
        assert run.config.method == "coreset(runs=scan(warmup_threshold=1.0) of tiny+other, seed 0+1)"
    plan = json.loads((runs[0].folder.parent / "plan.json").read_text())
    assert plan["runs"][-1]["waits_for"] == list(coresets[-1].config.waits_for)


def test_a_selector_may_name_a_model_that_the_sweep_describes(planned: Plan) -> None:
    of_both = {"coreset": {"runs": {"pruner": SCAN, "model": ["tiny", "other"]}, "keep_fraction": 0.5}}
    runs = planned(clip_grid(pruner=of_both), clip_grid(model=[TINY_CLIP, OTHER], pruner=SCAN))
    (coreset,) = (run for run in runs if "coreset" in run.config.name)
    assert set(coreset.config.waits_for) == {run.config.name for run in runs} - {coreset.config.name}
    of_none = {"coreset": {"runs": {"pruner": SCAN, "model": "others"}, "keep_fraction": 0.5}}
    with pytest.raises(ConfigError, match="unknown CLIP model 'others'"):
        planned(clip_grid(pruner=of_none), clip_grid(model=[TINY_CLIP, OTHER], pruner=SCAN))


def test_a_run_is_planned_after_those_it_waits_for_whatever_the_order_of_the_file(planned: Plan) -> None:
    for pruners in itertools.permutations([OF_SCAN, SCAN, "full"]):
        runs = planned(clip_grid(pruner=list(pruners)), results=str(hash(str(pruners))))
        names = [run.config.name for run in runs]
        for run in runs:
            assert all(names.index(other) < names.index(run.config.name) for other in run.config.waits_for)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (
            {"pruner": "scan"},
            r"grid\[0\]\.pruner\.coreset\.runs: no run of this sweep has .*seed 0; name it in a grid",
        ),
        ({"pruner": SCAN, "seed": 7}, r"no run of this sweep has .*seed 7"),
        ({"model": TINY_CLIP}, r"coreset\.runs\.pruner: missing; say which runs"),
        ({"pruner": SCAN, "modle": TINY_CLIP}, r"coreset\.runs\.modle: unknown key; did you mean 'model'"),
        ("scan", r"coreset\.runs: expected options as 'key: value'"),
        ({"pruner": {"scan": {"cylce": 2}}}, r"coreset\.runs\.pruner\.scan\.cylce: unknown option"),
    ],
)
def test_a_selector_that_selects_nothing_is_one_error(
    write_sweep: WriteSweep, selector: Any, message: str
) -> None:
    path = write_sweep(clip_grid(pruner=[SCAN, {"coreset": {"runs": selector}}]))
    with pytest.raises(ConfigError, match=message):
        make_plan(read_sweep(path), path.parent / "results")


def test_another_source_makes_another_run_and_the_same_method(write_sweep: WriteSweep) -> None:
    def coreset_of(epochs: int) -> tuple[str, str]:
        path = write_sweep(coreset_grid(train={"epochs": epochs}))
        run = make_plan(read_sweep(path), path.parent)[-1]
        return run.config.identity, run.config.method

    assert coreset_of(3)[0] != coreset_of(4)[0]
    assert coreset_of(3)[1] == coreset_of(4)[1]


@pytest.mark.slow
def test_a_failed_run_blocks_what_waits_for_it_and_nothing_else(
    write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(coreset_grid(pruner=[OF_SCAN, SCAN, "full"]))
    original = work._train

    def failing(folder: Path, *arguments: Any) -> Any:
        if "-scan-" in folder.name:
            raise ZeroDivisionError("broken")
        return original(folder, *arguments)

    monkeypatch.setattr(work, "_train", failing)
    assert run_sweep(path, "--cluster", "inline") == 1
    assert list(records(path)) == ["full s0"]
    runs = make_plan(read_sweep(path), path.parent / "results")
    states = {run.config.pruner.name: run.state for run in with_states(runs)}
    assert (states["scan"].name, states["coreset"].name) == ("failed", "blocked")
    assert "which is failed" in states["coreset"].detail
    assert run_sweep(path, "--cluster", "inline") == 1  # starts nothing: what it waits for is not tried again
    assert "0 to run" in capsys.readouterr().err
    monkeypatch.setattr(work, "_train", original)
    assert run_sweep(path, "--cluster", "inline", "--retry") == 0
    assert len(records(path)) == 3


def test_a_run_started_by_hand_before_its_source_says_so(planned: Plan) -> None:
    run = planned(coreset_grid())[-1]
    with pytest.raises(ValueError, match=r"coreset\.npz: no such file; has the run that makes it finished\?"):
        process.run(run.folder)


def test_status_says_what_a_run_waits_for(write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sweep(coreset_grid())
    assert run_sweep(path, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "2 runs, 1 absent, 1 waiting" in out
    (row,) = [line for line in out.splitlines() if line.startswith("clip-") and " waiting " in line]
    assert "-scan-s0-" in row  # what it waits for
