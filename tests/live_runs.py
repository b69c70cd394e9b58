"""One run on a live cluster of tests: submitted, waited for at work, put back into the queue, at its end."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import patience

from benchmark import sweep
from benchmark.config.sweepfile import read_sweep
from benchmark.plan.plan import PlannedRun, make_plan
from benchmark.runs.attempts import Attempt, attempts_of
from benchmark.runs.record import read_record

WriteSweep = Callable[..., Path]
Output = pytest.CaptureFixture[str]
MINUTES_LONG = {"epochs": 100_000, "log_every": 1, "checkpoint_minutes": 0.05}
HOOKS = Path(__file__).parent / "launch" / "hooks"


def call(path: Path, *words: str) -> int:
    return sweep.main([str(path), "--results", str(path.parent / "results"), *words])


def submit(path: Path, *words: str) -> tuple[PlannedRun, str]:
    """The sweep's only run and its job."""
    assert call(path, "--cluster", "slurm", *words) == 0
    (run,) = make_plan(read_sweep(path, list(words)), path.parent / "results")
    return run, json.loads((run.folder / "job" / "submitted.json").read_text())["job_id"]


def says(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def state_of_job(job_id: str) -> str:
    done = subprocess.run(["squeue", "-h", "-j", job_id, "-o", "%T"], capture_output=True, text=True)
    return done.stdout.strip()


def log_of(run: PlannedRun) -> str:
    return "".join(p.read_text() for p in run.folder.parent.glob("job/*_log.out"))


def wait(run: PlannedRun, what: str, condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + patience(seconds)
    while not (found := condition()):
        if time.monotonic() > end:
            controller = (Path(os.environ["SLURM_CONF"]).parent / "slurmctld.log").read_text()
            jobs = says("scontrol", "show", "job", "-o")
            pytest.fail(f"not {what}; jobs: {jobs}; log: {log_of(run)[-4000:]}; controller: {controller[-4000:]}")
        time.sleep(0.2)
    return found


def works(run: PlannedRun, attempt: int = 1, steps: int = 5) -> Attempt:
    """Wait until the attempt has logged some steps of its own."""

    def begun() -> Attempt | None:
        found = attempts_of(run.folder)
        return found[-1] if len(found) == attempt else None

    this: Attempt = wait(run, f"at attempt {attempt}", begun)
    path = run.folder / "log.jsonl"
    start = path.stat().st_size if path.exists() and attempt > 1 else 0

    def grown() -> bool:
        return path.exists() and b"step" in path.read_bytes()[start:] and path.stat().st_size > start + 100 * steps

    wait(run, "training", grown)
    return this


def goes_back(run: PlannedRun, job_id: str, seconds: float = 40) -> None:
    """Wait until the job is back in the queue, and lift the two minutes for which SLURM holds it.

    Not before its processes are gone, and then some: a node tells credentials apart by their second, and takes one
    made in the second in which it revoked the last for revoked ("Job credential revoked").
    """
    wait(run, "queued again", lambda: state_of_job(job_id) == "PENDING", seconds)
    pid = attempts_of(run.folder)[-1].pid
    wait(run, "at an end", lambda: not Path(f"/proc/{pid}").exists(), seconds)
    time.sleep(3)
    subprocess.run(["scontrol", "update", f"jobid={job_id}", "starttime=now"], capture_output=True)


def finished(run: PlannedRun, seconds: float = 60) -> dict[str, Any]:
    wait(run, "done", (run.folder / "record.json").exists, seconds)
    return read_record(run.folder / "record.json")


def story(run: PlannedRun) -> list[Any]:
    """Every logged loss, and the final numbers."""
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    record = read_record(run.folder / "record.json")
    losses = [(line["kind"], line["epoch"], line.get("step"), line["loss"]) for line in lines]
    return [losses, record["metrics"], record["training"]["samples_seen"]]


def gone(run: PlannedRun, job_id: str) -> None:
    wait(run, "gone from the queue", lambda: state_of_job(job_id) in ("", "COMPLETED", "CANCELLED", "FAILED"), 30)


def hook(path: Path, what: str) -> list[str]:
    return [f"export PYTHONPATH={HOOKS} TEST_SWEEP={path.parent / 'results' / 'tiny'} TEST_HOOK='{what}'"]
