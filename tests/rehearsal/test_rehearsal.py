"""A rehearsal goes all the way in small, in its own folder, and says what a sweep takes and whether it fits."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from sweeping import call, shown
from tiny import clip_grid, moco_grid

from analysis.read.results import load
from benchmark.config.job import load_config
from benchmark.config.sweepfile import read_sweep
from benchmark.plan.plan import PlannedRun, make_plan
from benchmark.plan.shapes import shape_of
from benchmark.rehearsal.derive import epochs_for
from benchmark.runs.attempts import attempts_of
from benchmark.runs.folder import RunFolder
from benchmark.runs.record import read_record

WriteSweep = Callable[..., Path]
Planned = Callable[..., list[PlannedRun]]
Output = pytest.CaptureFixture[str]
POOL = {"shapes": {"num_samples": 120}}
ZERO_SHOT = [{"zero_shot": {"dataset": "shapes"}}]
CLIP = clip_grid(
    pool=POOL,
    pruner=["full", "scan", {"semdedup": {"keep_fraction": 0.7}}],
    seed=[0, 1],
    features={"run": {"pruner": "full"}},
    train={"epochs": 12, "num_workers": 1},
    evaluate=ZERO_SHOT,
)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[Path, bytes]]:
    """A sweep file that was rehearsed, what that printed, and what the results held before."""
    path = tmp_path_factory.mktemp("rehearsed") / "tiny.yaml"
    done = clip_grid(train={"epochs": 1})
    path.write_text(yaml.safe_dump({"name": "before", "grid": [done]}))
    assert call(path, "--cluster", "inline") == 0
    before = content(path.parent / "results")
    path.write_text(yaml.safe_dump({"name": "tiny", "grid": [CLIP]}))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = call(path, "--rehearse", "--cluster", "inline")
    assert code == 0, said.getvalue()
    return path, said.getvalue(), before


def content(folder: Path) -> dict[Path, bytes]:
    """Of every file that is no rehearsal's."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".rehearsal" not in path.parts)
    return {path: path.read_bytes() for path in files}


def jobs(path: Path) -> dict[str, RunFolder]:
    """The rehearsal's folders of jobs, by the method."""
    found = sorted(path.parent.glob("results/.rehearsal/tiny/runs/*/config.yaml"))
    return {load_config(config).method: RunFolder(config.parent) for config in found}


def told(path: Path) -> dict[str, dict[str, object]]:
    text = (path.parent / "results/.rehearsal/tiny/rehearsal.json").read_text()
    return {str(shape["run"]): shape for shape in json.loads(text)["shapes"].values()}


def test_each_kind_of_job_goes_from_its_first_step_to_its_record(
    rehearsed: tuple[Path, str, dict[Path, bytes]],
) -> None:
    folders = jobs(rehearsed[0])
    choice = "choice of semdedup(keep_fraction=0.7)"
    assert sorted(folders) == [choice, "features of tiny", "full", "scan", "semdedup(keep_fraction=0.7)"]
    assert folders.pop("features of tiny").features.exists()
    assert folders.pop(choice).choice.exists()
    for folder in folders.values():
        first, second = attempts_of(folder)
        assert first.why == "stopped by USR2 or USR1"
        assert second.why == "done"
        assert 0 < first.steps_end == second.steps_start < second.steps_end  # type: ignore[operator]
        record = read_record(folder.record)
        assert record["metrics"]
        assert not record["evaluation_skipped"]
    kept = [row["kept"] for row in read_record(folders["scan"].record)["training"]["by_epoch"]]
    assert kept[0] == max(kept) > min(kept)
    assert list(folders["scan"].marks.glob("epoch-*.npy")), "a preparation epoch leaves its marks"


def test_one_line_a_kind_of_job_stands_for_all_of_its_seeds(
    rehearsed: tuple[Path, str, dict[Path, bytes]],
) -> None:
    path, said, _ = rehearsed
    rows = {line.split("  ")[1].strip(): line.split() for line in said.splitlines() if line.startswith("  tiny")}
    assert list(rows) == ["tiny full", "tiny scan", "tiny semdedup(keep_fraction=0.7)"]
    assert {cells[2] for cells in rows.values()} == {"2"}
    assert all(re.fullmatch(r"[1-9]\d*/1", cells[6]) for cells in rows.values()), "of loader workers"
    assert "in all about" in said
    assert "core hours for 10 runs" in said
    assert "all kinds of jobs would get through" in said
    measured = told(path)
    for shape in measured.values():
        assert shape["device_kind"] == "cpu"
        assert shape["hours"] > 0  # type: ignore[operator]
    (scan,) = (shape for name, shape in measured.items() if "-scan-" in name)
    assert scan["share"] == pytest.approx(0.75, abs=0.05)
    assert scan["measured"]["usage"]["memory_bytes"] > 10**8  # type: ignore[index]


def test_what_was_rehearsed_stands_in_the_estimate(
    rehearsed: tuple[Path, str, dict[Path, bytes]], capsys: Output
) -> None:
    path, _, _ = rehearsed
    other = path.with_name("other.yaml")
    grid = {**CLIP, "pool": {"shapes": {"num_samples": 121}}}
    other.write_text(yaml.safe_dump({"name": "other", "grid": [grid]}))
    assert "core hours of training for 10 runs, reckoned from FLOPs" in shown(other, capsys, "--dry-run")
    said = shown(path, capsys, "--dry-run")
    assert "core hours for 10 runs and their evaluation, as rehearsed (" in said
    assert "at most" not in said
    assert "rehearsed" not in shown(path, capsys, "--dry-run", "launch.gpus=1")  # another kind of device


def test_results_stay_as_they_were_and_no_report_reads_a_rehearsal(
    rehearsed: tuple[Path, str, dict[Path, bytes]],
) -> None:
    path, _, before = rehearsed
    results = path.parent / "results"
    now = content(results)
    assert now == before
    found = load(results)
    assert found.sweeps == ("before",)
    assert len(found.runs) == 1
    assert not found.problems
    plan = make_plan(read_sweep(path), results)
    assert {run.state.words for run in plan} == {"absent"}, "nothing is taken over from a rehearsal"


def test_the_next_rehearsal_takes_the_place_of_the_last(write_sweep: WriteSweep, capsys: Output) -> None:
    path = write_sweep(moco_grid(pool=POOL, train={"epochs": 4}))
    assert call(path, "--rehearse", "--status") == 2
    assert "has not been rehearsed" in capsys.readouterr().err
    assert call(path, "--rehearse", "--cluster", "inline") == 0
    (first,) = jobs(path).values()
    assert call(path, "--rehearse", "--cluster", "inline", "train.weight_decay=0.2") == 0
    (second,) = jobs(path).values()
    assert first.name != second.name
    assert list(told(path)) == [second.name]
    assert "1 jobs, 1 done" in shown(path, capsys, "--rehearse", "--status", "train.weight_decay=0.2")


@pytest.mark.slow
def test_processes_of_this_machine_are_stopped_once_and_go_on(write_sweep: WriteSweep, capsys: Output) -> None:
    path = write_sweep(moco_grid(pool=POOL, train={"epochs": 4}))
    assert call(path, "--rehearse", "--cluster", "local", "--jobs", "1") == 0
    (folder,) = jobs(path).values()
    assert [attempt.was_stopped for attempt in attempts_of(folder)] == [True, False]
    assert "saved at step" in capsys.readouterr().out


def test_a_checkpoint_that_takes_longer_than_slurm_warns_ahead_is_told_with_its_run(
    write_sweep: WriteSweep, capsys: Output
) -> None:
    path = write_sweep(moco_grid(pool=POOL, train={"epochs": 4}, launch={"signal_seconds": 0}))
    assert call(path, "--rehearse", "--cluster", "inline") == 1
    (name,) = told(path)
    said = capsys.readouterr().out
    assert f"fail: {name}: time to save: a step and a checkpoint take" in said
    assert "raise launch.signal_seconds" in said


def test_without_data_made_up_shards_are_read_and_that_is_a_failure_that_is_told(
    write_sweep: WriteSweep, capsys: Output, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCAN_BENCH_DATA", str(tmp_path / "none"))
    pool = {"webdataset": {"name": "cc3m", "num_samples": 2_683_008}}
    tasks = [{"zero_shot": {"dataset": "cifar10"}}, {"retrieval": {"dataset": "flickr30k"}}]
    path = write_sweep(clip_grid(pool=pool, train={"epochs": 32}, evaluate=tasks))
    assert call(path, "--rehearse", "--cluster", "inline") == 1
    said = capsys.readouterr().out
    assert "-cc3m-full-s0-" in said
    assert "data: cc3m: no shards match" in said
    assert "made-up samples of its layout stood in for it" in said
    assert "zero_shot on cifar10: its data is not there, made-up images stand in for it" in said
    (folder,) = jobs(path).values()
    record = read_record(folder.record)
    assert record["pool_facts"]["num_samples"] == 80
    assert {row["task"] for row in record["metrics"]} == {"zero_shot", "retrieval"}
    (shape,) = told(path).values()
    steps = shape["measured"]["steps"]  # type: ignore[index]
    assert shape["training_hours"] * 3600 >= 32 * (2_683_008 // 8) * steps["computing"]  # type: ignore[operator]


def test_a_job_that_fails_is_told_with_its_error(
    write_sweep: WriteSweep, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.job import work

    def broken(*_: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(work, "_train", broken)
    path = write_sweep(moco_grid(pool=POOL))
    assert call(path, "--rehearse", "--cluster", "inline") == 1
    said = capsys.readouterr().out
    assert "its rehearsal is failed: RuntimeError: no such kernel" in said
    assert "1 of 1 kinds of jobs would not get through" in said


def test_shapes_tell_apart_what_costs_differently_and_nothing_else(planned: Planned) -> None:
    (plain,) = planned(clip_grid())
    same = planned(clip_grid(seed=3, launch={"minutes": 7, "partition": "gpu", "signal_seconds": 5}))
    others = [
        clip_grid(pruner="scan"),
        clip_grid(train={"batch_size": 16}),
        clip_grid(train={"num_workers": 2}),
        clip_grid(evaluate=ZERO_SHOT),
        clip_grid(launch={"ranks": 2}),
        clip_grid(pool=POOL),
        moco_grid(),
    ]
    assert shape_of(same[0].config) == shape_of(plain.config)
    assert len({shape_of(planned(grid)[0].config) for grid in others} | {shape_of(plain.config)}) == 8
    methods = planned(CLIP)
    assert len(methods) == 10
    assert len({shape_of(run.config) for run in methods}) == 5, "of what a run waits for, too, seeds do not count"


@pytest.mark.parametrize(
    ("pruner", "epochs"), [("full", 3), ({"random_subset": {"keep_fraction": 0.5}}, 3), ("scan", 6)]
)
def test_as_many_epochs_are_rehearsed_as_a_method_has_kinds_of(
    pruner: object, epochs: int, planned: Planned
) -> None:
    (run,) = planned(clip_grid(pruner=pruner, train={"epochs": 40}))
    assert epochs_for(run.config) == epochs  # type: ignore[arg-type]
    (short,) = planned(clip_grid(pruner=pruner, train={"epochs": 2}))
    assert epochs_for(short.config) == 2  # type: ignore[arg-type]
