"""A run that is asked to stop does so within a step, saves once and can go on; one that is killed can too."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import patience
from rank_processes import on_ranks
from test_resume import SCAN_GRID, story
from test_resume import uninterrupted as uninterrupted
from tiny import clip_grid

from benchmark import signals
from benchmark.job import peers, process, requeue
from benchmark.job import work as job_work
from benchmark.plan.plan import PlannedRun
from benchmark.runs.attempts import attempts_of, is_idle
from benchmark.runs.folder import RunFolder
from benchmark.runs.state import state_of
from benchmark.training import trainer

pytestmark = pytest.mark.slow

Plan = Callable[..., list[PlannedRun]]
LONG = {"epochs": 4000, "log_every": 1}


def at_step(number: int, act: Callable[[], Any]) -> None:
    """From now on this process acts before its step ``number``, counted from 0 in this attempt."""
    step, calls = trainer.Trainer._step, iter(range(10**6))

    def acting(*arguments: Any) -> Any:
        if next(calls) == number:
            act()
        return step(*arguments)

    trainer.Trainer._step = acting  # type: ignore[method-assign]


def in_child(work: Callable[[], Any], seconds: float = 60) -> int:
    """Exit code of a forked process that works; it is killed and the test fails if it does not end."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            work()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os._exit(code)
    end = time.monotonic() + patience(seconds)
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail(f"still working after {seconds} s")


def checkpoints(run: PlannedRun) -> list[str]:
    return sorted(path.stem for path in (run.folder / "checkpoint").glob("step-*.sha256"))


@pytest.mark.parametrize("number", signals.ASKING)
def test_a_signal_stops_a_run_after_the_step_it_is_in_with_one_checkpoint(planned: Plan, number: int) -> None:
    (run,) = planned(clip_grid(train=LONG))

    def work() -> None:
        at_step(5, lambda: os.kill(os.getpid(), number))
        process.start(str(run.folder))

    assert in_child(work) == requeue.STOPPED
    assert checkpoints(run) == ["step-000000006"]
    assert state_of(run.folder, run.config).name == "partial"
    (attempt,) = attempts_of(run.folder)
    assert (attempt.steps_start, attempt.steps_end) == (0, 6)
    assert str(attempt.why).startswith("stopped by ")


def test_a_run_that_was_stopped_goes_on_to_the_losses_of_one_that_was_not(
    planned: Plan, uninterrupted: dict[str, Any]
) -> None:
    grid = {**SCAN_GRID, "train": {**SCAN_GRID["train"], "log_every": 10, "checkpoint_minutes": 10}}
    (whole,) = planned(grid, results="whole")
    assert process.run(whole.folder) == "done"
    (run,) = planned(grid)
    for step in (3, 0, 12, 7):

        def work(step: int = step) -> None:
            at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
            process.start(str(run.folder))

        assert in_child(work) == requeue.STOPPED
    assert process.run(run.folder) == "done"
    assert story(run) == story(whole)
    assert [a.number for a in attempts_of(run.folder)] == [1, 2, 3, 4, 5]


def test_signals_to_all_processes_of_a_job_leave_the_workers_and_one_checkpoint(planned: Plan) -> None:
    (run,) = planned(clip_grid(train={**LONG, "num_workers": 2}))
    workers: list[int] = []

    def everybody() -> None:
        workers.extend(child.pid or 0 for child in multiprocessing.active_children())
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR2):
            for pid in (*workers, os.getpid()):
                os.kill(pid, number)
        (run.folder / "workers.json").write_text(json.dumps(workers))

    def work() -> None:
        at_step(5, everybody)
        process.start(str(run.folder))

    assert in_child(work) == requeue.STOPPED
    assert checkpoints(run) == ["step-000000006"]
    pids = json.loads((run.folder / "workers.json").read_text())
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_signal_that_comes_while_the_process_still_loads_is_taken_up() -> None:
    code = """
import os, signal
from benchmark import signals
signals.hear_early()
os.kill(os.getpid(), signal.SIGUSR2)
with signals.listening():
    print(signals.asked() == signals.ANNOUNCED)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=patience(60))
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_what_nohup_has_a_command_ignore_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not signals.asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ranks_stop_at_the_same_step_whichever_of_them_was_asked(planned: Plan) -> None:
    (run,) = planned(clip_grid(train=LONG))

    def work(rank: int) -> str:
        with signals.listening():
            if rank == 1:
                at_step(5, lambda: os.kill(os.getpid(), signal.SIGUSR2))
            with pytest.raises(signals.Stopped) as stopped:
                process.run(run.folder)
        assert checkpoints(run)  # no rank goes before it is whole
        return f"{stopped.value.how} {checkpoints(run)}"

    assert on_ranks(2, work) == [f"{signals.ANNOUNCED} ['step-000000007']"] * 2  # the vote is a step late


def test_a_rank_ends_when_another_has_left_an_error_though_it_waits_for_it(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(peers, "GRACE_SECONDS", 0.5)
    (run,) = planned(clip_grid(train=LONG))

    def work(rank: int) -> str:
        def fail() -> None:
            raise RuntimeError("no luck")

        if rank == 1:
            at_step(3, fail)
        try:
            return process.run(run.folder)
        except Exception:  # as a process that cannot leave the group for want of the others
            time.sleep(60)
            raise

    assert on_ranks(2, work, seconds=15) == [None, None]  # both ended hard, long before gloo gives up
    assert "rank 1 of 2: no luck" in (run.folder / "error.json").read_text()


def test_twenty_kills_at_any_moment_change_nothing(planned: Plan, uninterrupted: dict[str, Any]) -> None:
    (run,) = planned(SCAN_GRID)
    moments, finished = random.Random(6), 0
    for kill in range(100):
        if kill >= 20 and (finished or len(attempts_of(run.folder)) > 10):
            break  # on a busy machine many hit a process that has not begun yet
        child = os.fork()
        if child == 0:
            try:
                process.run(run.folder)
            finally:
                os._exit(0)
        time.sleep(moments.uniform(0.02, 0.8))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if state_of(run.folder, run.config).name == "done":  # the next kills hit it from the start again
            assert story(run) == uninterrupted["clip"]
            shutil.rmtree(run.folder)
            (run,), finished = planned(SCAN_GRID), finished + 1
    end = time.monotonic() + patience(10)
    while (said := process.run(run.folder)) == "held":  # a loader worker outlives its parent by a moment
        assert time.monotonic() < end
    assert said == "done"
    assert story(run) == uninterrupted["clip"]
    assert finished or len(attempts_of(run.folder)) > 10


def test_a_job_is_idle_after_three_attempts_without_a_step(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(requeue.jobs, "facts", lambda _job: {"JobState": "RUNNING"})
    asked: list[str] = []
    monkeypatch.setattr(requeue.jobs, "requeue", lambda job_id: asked.append(job_id) or "")
    (run,) = planned(clip_grid())

    def stop(*_: Any) -> Any:
        raise signals.Stopped(signals.ANNOUNCED)

    monkeypatch.setattr(job_work, "_train", stop)
    for count in range(3):
        assert not is_idle(run.folder, "7")
        with pytest.raises(signals.Stopped):
            process.run(run.folder)
        if count < 2:
            assert requeue.leave(run.folder, signals.ANNOUNCED) == requeue.STOPPED
    assert asked == ["7", "7"]
    with pytest.raises(requeue.NoProgressError, match=r"launch\.minutes"):
        requeue.leave(run.folder, signals.ANNOUNCED)
    assert state_of(run.folder, run.config).name == "failed"


@pytest.mark.parametrize(
    ("how", "facts", "queued"),
    [
        (signals.ANNOUNCED, {"JobState": "RUNNING", "PreemptTime": "None"}, True),
        (signals.ANNOUNCED, {"JobState": "CANCELLED"}, False),
        (signals.ANNOUNCED, {"JobState": "PENDING"}, False),  # SLURM has queued it again itself
        (signals.ANNOUNCED, None, True),  # it does not answer: ask it again
        (signals.TERM, {"JobState": "RUNNING", "PreemptTime": "None"}, False),
        (signals.TERM, {"JobState": "RUNNING", "PreemptTime": "2026-01-01T00:00:00"}, True),  # time of grace
        (signals.TERM, None, False),
    ],
)
def test_what_puts_a_job_back_into_the_queue(
    how: int, facts: dict[str, str] | None, queued: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    monkeypatch.setattr(requeue.jobs, "facts", lambda _job: facts)
    asked: list[str] = []
    monkeypatch.setattr(requeue.jobs, "requeue", lambda job_id: asked.append(job_id) or "")
    assert requeue.leave(RunFolder(tmp_path), how) == requeue.STOPPED
    assert asked == (["7_2"] if queued else [])


def test_runs_that_share_a_job_do_not_queue_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    monkeypatch.setattr(requeue.jobs, "requeue", lambda _job: pytest.fail("it was"))
    assert requeue.leave(RunFolder(tmp_path), signals.ANNOUNCED) == requeue.STOPPED
