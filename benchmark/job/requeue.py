"""After a run was told to stop: whether its job goes back into SLURM's queue, and how the process ends."""

from __future__ import annotations

import logging
import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from benchmark import signals
from benchmark.runs import attempts
from benchmark.runs.errors import write_error
from benchmark.runs.folder import RunFolder
from benchmark.slurm import jobs, this_job

STOPPED = 75
"""Exit code of a run that stopped before its end: no success, so that no run that waits for it starts."""
logger = logging.getLogger(__name__)


class NoProgressError(RuntimeError):
    """A job whose attempts end where they began: one more would do the same."""


def leave(folder: RunFolder, how: int) -> int:
    """Queue this process's job again if that is what the signal asks for; the exit code for this process.

    USR2 and USR1 do (the time limit, a preemption that announces itself). TERM alone does only in the grace period
    of a preemption: SLURM queues a job again that it ends itself, and a cancelled one stays cancelled.
    Raises NoProgressError, with the run's error on disk, if the job's last attempts came no further.
    """
    job = this_job.job_id()
    if job is None or not this_job.is_ours_to_requeue():
        logger.info("stopped; the same command goes on from the checkpoint")
        return STOPPED
    found = jobs.facts(job)
    state = (found or {}).get("JobState", "unknown")
    if found is not None and state != "RUNNING":
        logger.info("stopped; SLURM has the job down as %s and does the rest", state)
        return STOPPED
    if how != signals.ANNOUNCED and not jobs.is_preempted(found or {}):
        logger.info("stopped by TERM: not queued again; the same command goes on from the checkpoint")
        return STOPPED
    if attempts.is_idle(folder, job):
        error = NoProgressError(
            f"the last {attempts.MOST_IDLE} attempts of job {job} came no further than the checkpoint they began"
            " with; raise launch.minutes, or find out what takes the time before the first step"
        )
        write_error(folder, error)
        raise error
    problem = jobs.requeue(job)
    if problem:  # --status tells
        why = attempts.attempts_of(folder)[-1].why
        attempts.close(folder, f"{why}; {attempts.NOT_QUEUED}: {problem}")
    logger.info("job %s %s", job, f"could not be queued again: {problem}" if problem else "is queued again")
    return STOPPED


@contextmanager
def last_resort(folder: RunFolder, sock: socket.socket | None, patience_seconds: float) -> Iterator[None]:
    """Requeue without a new checkpoint if the work does not stop within ``patience_seconds`` of USR2 or USR1.

    The main thread may be stuck in foreign code, or in a collective: the last checkpoint on disk is there anyway.
    """
    if sock is None or not this_job.is_ours_to_requeue():
        yield
        return
    done = threading.Event()
    threading.Thread(target=_wait, args=(folder, sock, patience_seconds, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _wait(folder: RunFolder, sock: socket.socket, patience_seconds: float, done: threading.Event) -> None:
    announcing = {signal.SIGUSR1.value, signal.SIGUSR2.value}
    while not done.is_set():
        try:
            ready, _, _ = select.select([sock], [], [], 1.0)
            came = sock.recv(64) if ready else b""
        except (OSError, ValueError):  # closed: the work is over
            return
        if announcing.isdisjoint(came):
            continue
        if done.wait(patience_seconds):
            return
        logger.warning("no step has ended for %.0f s: going back without a new checkpoint", patience_seconds)
        attempts.close(folder, "stopped by a signal, in the middle of a step")
        try:
            leave(folder, signals.ANNOUNCED)
        except NoProgressError:
            logger.exception("not queued again")
        return
