"""Bringing a rehearsal's jobs to their ends by the sweep's launcher: each stops once and starts again."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmark import signals
from benchmark.launch.cancel import at_work
from benchmark.launch.local import LocalQueue, run_inline
from benchmark.launch.slots import Slots
from benchmark.launch.submit import submit_slurm
from benchmark.launch.todo import to_do
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.runs.attempts import attempts_of
from benchmark.runs.submission import job_of
from benchmark.slurm.commands import call
from benchmark.status.queue import Queue, look
from benchmark.status.standing import is_settled, with_states

POLL_SECONDS = 2.0
MOST_ATTEMPTS = 4
"""At one job: two are meant, and a time limit that is short may make it more."""
LIFT_SECONDS = 5.0
"""Before a job that was queued again may start: a node refuses a credential of the second of its last one."""
BEGINS_LATER = "BeginTime"
"""squeue's reason for a job that was queued again: SLURM holds it for two minutes."""


def bring_to_their_ends(
    runs: Sequence[PlannedRun], folder: Path, cluster: str, slots: Slots, console: Console
) -> list[PlannedRun]:
    """The runs with their states when none of them comes any further.

    Raises ConfigError where this machine or SLURM cannot take one at all, and signals.Stopped if a signal asked
    this process to end.
    """
    names = {run.config.name for run in runs}
    before: list[int] = []
    while True:
        runs = with_states(runs, look(runs))
        stand = [len(attempts_of(run.folder)) for run in runs]
        worn_out = {run.config.name for run, count in zip(runs, stand, strict=True) if count >= MOST_ATTEMPTS}
        todo = [run for run in to_do(runs, False, names) if run.config.name not in worn_out]
        if not todo or stand == before:  # nothing to start, or none of those started began
            return list(runs)
        before = stand
        if cluster == "slurm":
            _on_slurm(runs, todo, folder, console)
        else:
            _here(todo, folder, cluster, slots, console)


def _here(todo: list[PlannedRun], folder: Path, cluster: str, slots: Slots, console: Console) -> None:
    if cluster == "local":
        slots.check(todo)
    asked = Console(file=io.StringIO())  # of signals that a job in this process sends itself nothing is told
    with at_work(folder, asked if cluster == "inline" else console):
        try:
            if cluster == "inline":
                run_inline(todo, console, fail_fast=False)
            else:
                LocalQueue(todo, slots, fail_fast=False, console=console).work()
        except signals.Stopped as stopped:
            if stopped.how != signals.ANNOUNCED:  # by a user, not by the job itself
                raise


def _on_slurm(runs: Sequence[PlannedRun], todo: list[PlannedRun], folder: Path, console: Console) -> None:
    try:
        sent = submit_slurm(todo, folder)
    except ConfigError as error:  # of jobs that ask for the same the first, and those before it went out
        refused = next(run for run in todo if job_of(run.folder) is None)
        raise ConfigError(f"{refused.config.name}: {error}") from error
    if sent.left:
        raise ConfigError(f"SLURM takes no more for now ({sent.reason}): {sent.left} jobs of the rehearsal remain")
    console.print(f"submitted {len(sent.ids)} jobs; --rehearse --status and --cancel work on them", soft_wrap=True)
    follow(runs)


def follow(runs: Sequence[PlannedRun], tell: Callable[[Sequence[PlannedRun]], None] = lambda _: None) -> None:
    """Wait until nothing changes any more by itself; a job that was queued again need not wait for two minutes."""
    quiet, seen = 0, dict[str, float]()
    while quiet < 2:  # twice: a record may show late on a network file system
        time.sleep(POLL_SECONDS)
        queue = look(runs)
        _lift(queue, seen)
        runs = with_states(runs, queue)
        tell(runs)
        quiet = quiet + 1 if is_settled(runs) else 0


def _lift(queue: Queue, seen: dict[str, float]) -> None:
    """``seen``: when each job was first seen to be held."""
    for job in queue.jobs.values():
        if job.state != "PENDING" or job.reason != BEGINS_LATER:
            seen.pop(job.job_id, None)
        elif time.monotonic() - seen.setdefault(job.job_id, time.monotonic()) > LIFT_SECONDS:
            call(["scontrol", "update", f"jobid={job.job_id}", "starttime=now"])
