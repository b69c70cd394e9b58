"""A rank that hangs ends its run in the minutes that are set, with what every rank is at; a long wait does not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from rank_processes import on_ranks
from test_signals import LONG, at_step
from tiny import clip_grid

from benchmark.job import hang, process, requeue
from benchmark.plan.plan import PlannedRun
from benchmark.runs.attempts import attempts_of, close
from benchmark.training import checkpoint

pytestmark = pytest.mark.slow
Plan = Callable[..., list[PlannedRun]]
MINUTES = 0.05


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Names each job that was put back into the queue, which ends its ranks as SLURM does: at once."""
    path = tmp_path / "asked"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(requeue.jobs, "facts", lambda _job: {"JobState": "RUNNING"})

    def put_back(job: str) -> str:
        with path.open("a") as file:
            file.write(f"{job} ")
        for rank in tmp_path.glob("rank*.pid"):
            if (pid := int(rank.read_text())) != os.getpid():
                os.kill(pid, signal.SIGKILL)
        return ""

    monkeypatch.setattr(requeue.jobs, "requeue", put_back)
    monkeypatch.setattr(hang, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(hang, "LAST_WORDS_SECONDS", 2.0)
    monkeypatch.setattr(hang, "OTHERS_SECONDS", 4.0)
    return path


def never_ends() -> None:
    time.sleep(15)
    os._exit(0)


@pytest.mark.parametrize(
    ("hung", "step", "saved"), [(0, 6, 4), (1, 6, 4), (1, 8, 8)], ids=["rank 0", "rank 1", "first of an epoch"]
)
def test_a_rank_that_hangs_puts_the_job_back_and_leaves_every_rank_s_stack_in_its_log(
    hung: int, step: int, saved: int, planned: Plan, asked: Path, tmp_path: Path
) -> None:
    (run,) = planned(clip_grid(train={**LONG, "log_every": 4, "checkpoint_minutes": 0.0}))

    def work(rank: int) -> str:
        (tmp_path / f"rank{rank}.pid").write_text(str(os.getpid()))
        if rank == 1:
            hang.POLL_SECONDS = 5.0  # the last to look
        log = os.open(tmp_path / f"rank{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 2)  # a log of its own, as SLURM gives it: two stacks in one would mix letter by letter
        if rank == hung:
            at_step(step, never_ends)
        # as a whole process may hang, whose watch then says nothing: the other rank has to act
        with nullcontext() if (rank, hung) == (0, 0) else hang.watched(run.folder, MINUTES):
            return process.run(run.folder)

    assert on_ranks(2, work, seconds=25) == [None, None]
    assert set(asked.read_text().split()) == {"7"}
    (attempt,) = attempts_of(run.folder)
    assert attempt.why == "stopped by launch.hang_minutes: no step had ended for 0.05 minutes"
    assert attempt.was_stopped
    assert attempt.steps_end == saved  # what was saved before is there to go on from
    said = "".join(log.read_text() for log in tmp_path.glob("rank*.log"))
    assert said.count("in _run_epoch") == 1 + hung  # of each rank that has a watch
    assert ("in never_ends" in said) == (hung == 1)


def test_a_first_step_a_checkpoint_and_what_lies_between_epochs_may_take_their_time(
    planned: Plan, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(clip_grid(train={"epochs": 2, "checkpoint_minutes": 0.0, "log_every": 6}))
    waits = {"first": 4.0, "save": 4.0}

    def wait(what: str) -> None:
        time.sleep(waits.pop(what, 0.0))

    def saving(self: Any, *arguments: Any, save: Any = checkpoint.Writer.save) -> None:
        wait("save")
        save(self, *arguments)

    monkeypatch.setattr(checkpoint.Writer, "save", saving)
    at_step(0, lambda: wait("first"))
    try:
        with hang.watched(run.folder, MINUTES):
            assert process.run(run.folder) == "done"
    finally:
        monkeypatch.undo()
    assert not waits
    assert not asked.exists()


def test_why_slurm_does_not_queue_a_job_again_stands_in_its_attempt(
    planned: Plan, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(clip_grid(train={"epochs": 1}))
    process.run(run.folder)
    close(run.folder, "stopped by USR2 or USR1")
    monkeypatch.setattr(requeue.jobs, "requeue", lambda _job: "Requested operation is presently disabled")
    assert requeue.leave(run.folder, 2) == requeue.STOPPED
    (attempt,) = attempts_of(run.folder)
    assert attempt.why is not None
    assert attempt.why.endswith("SLURM does not queue it again: Requested operation is presently disabled")
    assert attempt.was_stopped
