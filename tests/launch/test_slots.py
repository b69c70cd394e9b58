"""Runs side by side on this machine: which GPUs each gets, and what the sweep is said to cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import clip_grid

from benchmark import sweep
from benchmark.launch import slots
from benchmark.launch.slots import Slots
from benchmark.plan.plan import PlannedRun

WriteSweep = Callable[..., Path]
Planned = Callable[..., list[PlannedRun]]
RECORDER = """
import atexit, json, os, sys, time
if "submitit.core._submit" in sys.orig_argv:
    def note(what):
        with open({path!r}, "a") as file:
            file.write(json.dumps([what, os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")]) + "\\n")
    note("start")
    atexit.register(note, "end")
"""


@pytest.fixture(autouse=True)
def _locks_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.slow
def test_runs_share_the_gpus_of_this_machine_and_never_one_of_them(
    write_sweep: WriteSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(RECORDER.format(path=str(tmp_path / "seen")))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/site:{Path.cwd()}")
    monkeypatch.setattr(slots, "machine_gpus", lambda: ["GPU-a", "GPU-b"])
    one = clip_grid(seed=[0, 1], train={"epochs": 1}, launch={"gpus": 1})
    two = clip_grid(seed=2, train={"epochs": 1}, launch={"gpus": 2, "ranks": 1})
    path = write_sweep(one, two)
    assert sweep.main([str(path), "--results", str(tmp_path / "results"), "--cluster", "local"]) == 0
    working: dict[int, set[str]] = {}
    seen, most = set(), 0
    for line in (tmp_path / "seen").read_text().splitlines():
        what, pid, given = json.loads(line)
        if what == "end":
            del working[pid]
            continue
        gpus = set(given.split(","))
        assert gpus.isdisjoint(*working.values()) if working else True
        working[pid] = gpus
        seen.add(given)
        most = max(most, len(working))
    assert seen == {"GPU-a", "GPU-b", "GPU-a,GPU-b"}
    assert most == 2


def test_gpus_bound_runs_that_ask_for_them_and_cores_the_others(planned: Planned) -> None:
    with_gpu = planned(clip_grid(seed=[0, 1, 2], launch={"gpus": 1}))
    on_cores = planned(clip_grid(seed=[3, 4, 5], launch={"cpus": 2}))
    room = Slots(None, gpus=["0", "1"], cores=4)
    assert [room.take(run) for run in with_gpu] == [["0"], ["1"], None]
    assert [room.take(run) for run in on_cores] == [[], [], None]
    room.free(with_gpu[0].config.name)
    assert room.take(with_gpu[2]) == ["0"]


def test_a_run_wider_than_the_machine_runs_alone_and_a_limit_overbooks_cores(planned: Planned) -> None:
    runs = planned(clip_grid(seed=[0, 1, 2], launch={"cpus": 8}))
    alone = Slots(None, gpus=[], cores=4)
    assert [alone.take(run) for run in runs] == [[], None, None]
    limited = Slots(2, gpus=[], cores=4)
    assert [limited.take(run) for run in runs] == [[], [], None]


def test_two_sweeps_at_once_share_out_the_gpus(planned: Planned) -> None:
    (run,) = planned(clip_grid(launch={"gpus": 1}))
    first, second = Slots(None, gpus=["0"], cores=2), Slots(None, gpus=["0"], cores=2)
    assert first.take(run) == ["0"]
    assert second.take(run) is None
    first.free(run.config.name)
    assert second.take(run) == ["0"]


def test_more_gpus_than_there_are_is_one_error_before_anything_starts(
    write_sweep: WriteSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slots, "machine_gpus", lambda: ["0"])
    path = write_sweep(clip_grid(launch={"gpus": 2}))
    words = [str(path), "--results", str(tmp_path / "results"), "--cluster", "local"]
    assert sweep.main(words) == sweep.EXIT_USAGE
    assert "asks for 2 GPUs and this machine has 1; say launch.gpus=N" in capsys.readouterr().err
    assert not list(tmp_path.glob("results/*/*/job"))


@pytest.mark.parametrize(("given", "gpus"), [("", []), ("-1", []), ("2,3", ["2", "3"]), ("GPU-ab", ["GPU-ab"])])
def test_the_gpus_of_this_machine_are_those_this_process_may_see(
    given: str, gpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert slots.machine_gpus() == gpus


def test_the_estimate_goes_by_records_and_else_by_flops_within_the_time_limits(
    write_sweep: WriteSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(train={"epochs": 1}, launch={"minutes": 90}))
    words = [str(path), "--results", str(tmp_path / "results")]
    assert sweep.main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "core hours of training for 1 runs, reckoned from FLOPs" in shown
    assert "at most 1.5 by their time limits" in shown
    assert sweep.main([*words, "--cluster", "inline"]) == 0
    capsys.readouterr()
    other = write_sweep(clip_grid(seed=[1, 2], launch={"minutes": 90}), name="other")  # the same model and pool
    words[0] = str(other)
    assert sweep.main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "core hours of training for 2 runs, as records of the same model and pool say (" in shown
    assert "at most" not in shown
    assert sweep.main([*words, "--dry-run", "launch.gpus=1"]) == 0  # another kind of device: records say nothing
    shown = capsys.readouterr().out
    assert "GPU hours of training for 2 runs, reckoned from FLOPs" in shown
    assert "(A100, since launch names no GPU; --rehearse does), at most 3.0 by their time limits" in shown
    assert sweep.main([*words, "--dry-run", "seed=0", "name=tiny", "train.epochs=1"]) == 0
    assert "estimate" not in capsys.readouterr().out  # nothing is left to run
