"""Status, cancel and doctor on a real SLURM of two nodes, without accounting."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import patience
from tiny import clip_grid

from benchmark import sweep

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]
WriteSweep = Callable[..., Path]
Output = pytest.CaptureFixture[str]
LONG = {"epochs": 4000, "log_every": 1}


def call(path: Path, *words: str) -> int:
    return sweep.main([str(path), "--results", str(path.parent / "results"), *words])


def status(path: Path, capsys: Output) -> str:
    capsys.readouterr()
    assert call(path, "--status") == 0
    return " ".join(capsys.readouterr().out.split())


def wait_for(words: str, path: Path, capsys: Output, seconds: float = 60) -> str:
    end = time.monotonic() + patience(seconds)
    while words not in (shown := status(path, capsys)):
        assert time.monotonic() < end, shown
        time.sleep(0.5)
    return shown


def jobs(path: Path) -> list[str]:
    return [
        json.loads(p.read_text())["job_id"] for p in sorted(path.parent.glob("results/*/*/job/submitted.json"))
    ]


def slurm_says(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_a_run_is_followed_from_the_queue_to_its_cancelled_end_and_others_are_left_alone(
    write_sweep: WriteSweep, capsys: Output
) -> None:
    neighbour = slurm_says("sbatch", "--parsable", "--hold", "--wrap", "true").strip()
    path = write_sweep(clip_grid(seed=[0, 1], launch={"minutes": 15}, train=LONG))
    assert call(path, "--cluster", "slurm", "--profile", profile(path)) == 0
    first, second = jobs(path)
    slurm_says("scontrol", "uhold", second)
    shown = status(path, capsys)
    assert f"scontrol release {second}" in shown or "2 running" in shown  # it may have begun before
    shown = wait_for(f"job {first}", path, capsys)
    while "/4000" not in shown:
        shown = status(path, capsys)
    assert "tiny: 2 runs" in shown
    capsys.readouterr()
    assert call(path, "--cancel") == 0
    said = capsys.readouterr().out
    assert all(f"cancelled job {job_id}," in said for job_id in (first, second))
    shown = wait_for(" stopped", path, capsys, 10)  # one was never started; the other is given time to end
    assert " done" not in shown
    assert " failed" not in shown
    assert neighbour in slurm_says("squeue", "-h", "-o", "%i")
    slurm_says("scancel", neighbour)


def profile(path: Path) -> str:
    """A profile beside the sweep, whose comment SLURM must have seen."""
    (path.parent / "here.yaml").write_text(
        "{partition: main, sbatch: {comment: from-a-profile}, srun: {quit-on-interrupt: true}}"
    )
    return "here"


def test_what_a_profile_says_reaches_slurm(write_sweep: WriteSweep) -> None:
    path = write_sweep(clip_grid(launch={"minutes": 15, "sbatch": {"hold": True}}))
    assert call(path, "--cluster", "slurm", "--profile", profile(path)) == 0
    (job_id,) = jobs(path)
    assert "Comment=from-a-profile" in slurm_says("scontrol", "show", "job", job_id)
    scripts = [p.read_text() for p in path.parent.glob("results/tiny/job/**/*.sh")]
    assert any("--quit-on-interrupt" in text for text in scripts)
    assert call(path, "--cancel") == 0


def test_a_dependency_that_cannot_be_met_is_shown_with_what_to_do(write_sweep: WriteSweep, capsys: Output) -> None:
    failing = slurm_says("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "exit 1").strip()
    path = write_sweep(clip_grid(launch={"minutes": 15, "sbatch": {"begin": "now+1hour"}}))
    assert call(path, "--cluster", "slurm") == 0
    (job_id,) = jobs(path)
    slurm_says(
        "scontrol", "update", f"jobid={job_id.split('_')[0]}", f"dependency=afterok:{failing}", "starttime=now"
    )
    assert "--cancel, then the same command with --retry" in wait_for("DependencyNeverSatisfied", path, capsys)
    assert call(path, "--cancel") == 0


def test_watch_ends_when_all_runs_have_and_prints_each_change(write_sweep: WriteSweep, capsys: Output) -> None:
    path = write_sweep(clip_grid(launch={"minutes": 15}, train={"epochs": 1}))
    assert call(path, "--cluster", "slurm") == 0
    capsys.readouterr()
    assert call(path, "--watch") == 0
    tables = capsys.readouterr().out
    assert "1 runs, 1 done" in tables.splitlines()[-6:][0] or "1 done" in tables
    assert 1 <= tables.count("tiny: 1 runs") <= 6


def test_the_doctor_finds_what_the_cluster_supports(tmp_path: Path, capsys: Output) -> None:
    words = ["doctor", "--cluster", "slurm", "--results", str(tmp_path), "--wait", "60", "launch.nodes=2"]
    assert sweep.main(words) == 0
    said = capsys.readouterr().out
    for line in (
        "arrays: at most 1001",
        "preemption: REQUEUE",
        "no sacct",
        "partition main (the default)",
        "USR2 arrives",
        "2 of 2 met over gloo",
        "the probe asked for no GPU",
    ):
        assert line in said
    assert "fail" not in said
    assert not list(tmp_path.iterdir())
    assert "scan-bench-doctor" not in slurm_says("squeue", "-h", "-t", "PD,R", "-o", "%j")
    assert sweep.main([*words, "launch.partition=nowhere"]) == 1
    assert "invalid partition" in capsys.readouterr().out
