"""What --status, --watch and --cancel say and do, with a squeue that says what a test wants it to."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweeping import call, shown, start
from tiny import clip_grid

from benchmark import sweep
from benchmark.config.sweepfile import read_sweep
from benchmark.models.clip import objective as clip
from benchmark.plan.plan import PlannedRun, make_plan
from benchmark.runs.lease import lease
from benchmark.status import table

WriteSweep = Callable[..., Path]
Output = pytest.CaptureFixture[str]
ABSENT_CONTROLLER = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"


def plan(path: Path) -> list[PlannedRun]:
    runs = make_plan(read_sweep(path), path.parent / "results")
    for run in runs:
        (run.folder / "job").mkdir(parents=True, exist_ok=True)
    return runs


def submitted(run: PlannedRun, job_id: str) -> None:
    (run.folder / "job" / "submitted.json").write_text(json.dumps({"job_id": job_id}))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a shell script in SLURM's place."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name: str, text: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)

    return write


def test_a_running_run_shows_epoch_loss_speed_time_left_and_attempt(
    write_sweep: WriteSweep, capsys: Output
) -> None:
    path = write_sweep(clip_grid(train={"epochs": 10}))
    (run,) = plan(path)
    steps = [
        {"epoch": 4, "loss": 2.5, "progress": 0.4, "samples_seen": 4000, "seconds": 400.0},
        {"epoch": 4, "loss": 2.25, "progress": 0.5, "samples_seen": 5000, "seconds": 420.0},
    ]
    lines = [json.dumps({"kind": "step", "step": 0, **step}) for step in steps]
    (run.folder / "log.jsonl").write_text("\n".join([*lines, '{"half a']))
    (run.folder / "job" / "attempts.jsonl").write_text("{}\n{}\n")
    with lease(run.folder / "job" / "run.lock"):
        row = next(
            line for line in shown(path, capsys).splitlines() if "running" in line and run.config.name in line
        )
    assert re.split(r" {2,}", row.strip()) == [run.config.name, "running", "5/10", "2.250", "50", "7 min", "2"]


def test_a_failed_run_shows_the_first_line_of_its_error_and_its_log(
    write_sweep: WriteSweep, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sweep(clip_grid(train={"epochs": 1}))

    def fail(*_: Any) -> Any:
        raise RuntimeError("[no] luck\nat all")

    monkeypatch.setattr(clip, "make", fail)
    assert call(path, "--cluster", "inline") == sweep.EXIT_FAILED
    (run,) = plan(path)
    assert f"RuntimeError: [no] luck; see {run.folder / 'error.json'}" in shown(path, capsys)
    log = run.folder / "job" / "77_0_log.out"
    log.write_text("Traceback")
    assert f"luck; see {log}" in shown(path, capsys)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("7|PENDING|0|Priority", "queued"),
        ("7|PENDING|0|JobHeldUser", "scontrol release 7"),
        ("7|PENDING|0|job requeued in held state", "scontrol release 7"),
        ("7|PENDING|0|DependencyNeverSatisfied", "--cancel, then the same command with --retry"),
        ("7|PENDING|0|ReqNodeNotAvail, UnavailableNodes:n1", "sinfo -R"),
        ("7|PENDING|0|PartitionTimeLimit", "lower launch.minutes"),
        ("7|PENDING|0|PartitionConfig", "lower launch.gpus, cpus or memory_gb"),
        ("7|PENDING|0|QOSMaxWallDurationPerJobLimit", "would never start: --cancel, then change launch.minutes"),
        ("7|PENDING|0|QOSMinGRES", "would never start: --cancel, then change launch.gpus"),
        ("7|PENDING|0|MaxMemPerLimit", "would never start: --cancel, then change launch.memory_gb"),
        ("7|PENDING|0|AssocGrpCPUMinutesLimit", "would never start: --cancel, then change launch.minutes"),
        ("7|PENDING|0|QOSMaxJobsPerUserLimit", "QOSMaxJobsPerUserLimit "),
        ("7|PENDING|0|AssocGrpCPURunMinutesLimit", "AssocGrpCPURunMinutesLimit "),
        ("7|RUNNING|0|None", "job 7: starting"),
    ],
)
def test_a_job_that_does_not_start_says_why_and_what_to_do(
    line: str, words: str, write_sweep: WriteSweep, capsys: Output, program: Callable[[str, str], None]
) -> None:
    path = write_sweep(clip_grid())
    submitted(plan(path)[0], "7")
    program("squeue", f"echo '{line}'")
    assert words in f"{shown(path, capsys)} ".replace("\n", " ")


def test_a_controller_that_is_away_fails_no_run_and_has_none_submitted_twice(
    write_sweep: WriteSweep, capsys: Output, program: Callable[[str, str], None]
) -> None:
    path = write_sweep(clip_grid(seed=[0, 1]))
    first, _ = plan(path)
    submitted(first, "7_0")
    program("squeue", ABSENT_CONTROLLER)
    program("sbatch", "touch called; exit 1")
    out = shown(path, capsys)
    assert "2 runs, 1 absent, 1 unknown" in out
    assert out.count("SLURM does not answer (slurm_load_jobs error: Unable to contact slurm controller)") == 1
    assert call(path, "--cluster", "slurm", "seed=0") == 0  # what may be queued is not submitted again
    assert "0 to run (slurm)" in capsys.readouterr().err
    assert call(path, "--cancel") == sweep.EXIT_FAILED


@pytest.mark.parametrize(
    ("log", "state", "words"),
    [
        (
            "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01 DUE TO TIME LIMIT ***",
            "stopped",
            "out of time",
        ),
        ("error: Detected 1 oom_kill event in StepId=7.0", "failed", "raise launch.memory_gb"),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01 ***", "stopped", "cancelled"),
        ("hello", "stopped", "ended without a word"),
        ("srun: error: n1: task 0: Killed", "stopped", "killed (SIGKILL)"),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01 DUE TO NODE FAILURE ***", "stopped", "node"),
        (
            "RuntimeError: Waited for 60 seconds but could not find submitted jobs in path:",
            "stopped",
            "never began",
        ),
        (
            "error: Detected 1 oom_kill event\nscan-bench: attempt 2 of x\n... CANCELLED AT x",
            "stopped",
            "cancelled",
        ),
        (None, "stopped", "left the queue before it began"),
    ],
)
def test_a_job_that_left_the_queue_without_a_record_is_told_from_one_that_waits(
    log: str | None,
    state: str,
    words: str,
    write_sweep: WriteSweep,
    capsys: Output,
    program: Callable[[str, str], None],
) -> None:
    path = write_sweep(clip_grid())
    (run,) = plan(path)
    submitted(run, "7_0")
    program("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    if log is not None:
        (run.folder.parent / "job").mkdir()
        (run.folder.parent / "job" / "7_0_0_log.out").write_text(log + "\n")
    out = shown(path, capsys)
    assert f"1 runs, 1 {state}" in out
    assert words in out
    is_tried_again = "estimate:" in shown(path, capsys, "--dry-run")
    assert is_tried_again == (state == "stopped")


OF_2_CORES = {"cores": 2, "gpus": 0}


@pytest.mark.parametrize(
    ("had", "asks", "state"),
    [
        ({"memory_gb": 8.0, **OF_2_CORES}, {"cpus": 2, "sbatch": {"mem-per-cpu": "4G"}}, "failed"),
        ({"memory_gb": 8.0, **OF_2_CORES}, {"cpus": 4, "sbatch": {"mem-per-cpu": "4G"}}, "stopped"),
        ({"memory_gb": 8.0, **OF_2_CORES}, {"cpus": 2, "sbatch": {"mem-per-cpu": "5G"}}, "stopped"),
        ({"memory_gb": 8.0, **OF_2_CORES}, {"memory_gb": 9}, "stopped"),
        ({"memory_gb": 8.0, **OF_2_CORES}, {"cpus": 4, "memory_gb": 8}, "failed"),
        ({"memory_gb": None, **OF_2_CORES}, {"cpus": 2}, "failed"),
        ({"memory_gb": None, **OF_2_CORES}, {"cpus": 4}, "stopped"),
        ({"memory_gb": None, **OF_2_CORES}, {"cpus": 2, "gpus": 1}, "stopped"),
        ({"memory_gb": 8}, {"cpus": 2, "sbatch": {"mem-per-cpu": "5G"}}, "stopped"),  # a line of an older version
        ({"memory_gb": None}, {"cpus": 4}, "failed"),
    ],
)
def test_a_run_out_of_memory_is_taken_again_once_it_gets_more_however_that_is_said(
    had: dict[str, Any],
    asks: dict[str, Any],
    state: str,
    write_sweep: WriteSweep,
    capsys: Output,
    program: Callable[[str, str], None],
) -> None:
    path = write_sweep(clip_grid(launch=asks))
    (run,) = plan(path)
    submitted(run, "7")
    program("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    attempt(run, "without a word", **had)
    (run.folder.parent / "job").mkdir()
    (run.folder.parent / "job" / "7_0_log.out").write_text("error: Detected 1 oom_kill event in StepId=7.0\n")
    out = shown(path, capsys)
    assert f"1 runs, 1 {state}" in out
    assert ("mem-per-cpu" if "sbatch" in asks else "killed for want of memory") in out


def attempt(run: PlannedRun, why: str, **more: Any) -> None:
    """The one attempt that job 7 made."""
    line = {"number": 1, "job": "7", "restart": 0, "node": "n1", "pid": 1, "cpus": 2, "started": "x"}
    content = json.dumps({**line, "steps_start": 0, "memory_gb": None, "why": why, **more})
    (run.folder / "job" / "attempts.jsonl").write_text(content + "\n")


def test_a_job_that_slurm_does_not_queue_again_says_so(
    write_sweep: WriteSweep, capsys: Output, program: Callable[[str, str], None]
) -> None:
    path = write_sweep(clip_grid())
    (run,) = plan(path)
    submitted(run, "7")
    program("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    attempt(run, "stopped by USR2 or USR1; SLURM does not queue it again: Requested operation is disabled")
    (run.folder.parent / "job").mkdir()
    (run.folder.parent / "job" / "7_0_log.out").write_text("slurmstepd: error: *** JOB 7 CANCELLED AT x ***\n")
    assert "SLURM does not queue it again: Requested operation is disabled" in shown(path, capsys)


@pytest.mark.slow
def test_watch_follows_a_sweep_of_this_machine_to_its_end(
    write_sweep: WriteSweep, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "POLL_SECONDS", 0.2)
    path = write_sweep(clip_grid(seed=[0, 1], train={"epochs": 1}))
    with start(path):
        out = shown(path, capsys, "--watch")
    assert "2 runs, 2 done" in out
    assert out.index("2 runs, 2 done") > out.index("tiny: 2 runs")
