"""Ending what a sweep has queued or started, and nothing else: its jobs in SLURM's queue, its processes here."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmark import signals
from benchmark.plan.plan import PlannedRun
from benchmark.runs.lease import holder_of, is_held, lease
from benchmark.slurm.commands import call
from benchmark.slurm.jobs import QueuedJob
from benchmark.status.queue import Queue

IDS_AT_ONCE = 200
PATIENCE_SECONDS = 20.0
"""How long a process may take to end."""


def cancel(runs: Sequence[PlannedRun], queue: Queue, folder: Path, console: Console) -> bool:
    """End all of ``runs`` that are queued or run, and the sweep commands in ``folder`` that would start more.

    Prints each. False if something is left: another user's, on another machine, or SLURM does not answer.
    """
    is_whole = _end_jobs(list(queue.jobs.items()), console)
    if queue.silent:
        console.print(f"SLURM does not answer ({queue.silent}): its jobs are as they were", soft_wrap=True)
        is_whole = False
    elif queue.in_doubt:
        console.print(f"{len(queue.in_doubt)} runs were just handed to SLURM, which shows no job yet: call again")
        is_whole = False
    sweeps = [(f"the sweep command of {path.stem}", path) for path in local_sweeps(folder)]
    working = [(run.config.name, run.folder.lease) for run in runs]
    asked = 0
    for leases in (sweeps, working):  # first who would start the next run
        ending = []
        for what, path in leases:
            holder = holder_of(path)
            if holder is None or holder.get("job"):  # nobody, or a job that scancel ends
                continue
            asked += 1
            reason = _end_process(path, holder)
            said = f"left alone: {what}: {reason}" if reason else f"ending {what}, process {holder['pid']}"
            console.print(said, markup=False, soft_wrap=True)
            is_whole = is_whole and not reason
            ending += [] if reason else [(what, path)]
        for what in _still_held(ending):
            console.print(f"{what} takes its time to end")
            is_whole = False
    if not queue.jobs and not asked and not queue.silent and not queue.in_doubt:
        console.print("nothing of this sweep is queued or running")
    return is_whole


@contextmanager
def at_work(folder: Path, console: Console) -> Iterator[None]:
    """Let ``cancel`` find this process, which starts runs on this machine; note signals, and tell of the first."""
    name = f"local-{socket.gethostname()}-{os.getpid()}.lock"
    with lease(folder / "job" / name), signals.listening() as sock:
        if sock is not None:
            threading.Thread(target=_tell, args=(sock, console), daemon=True).start()
        yield


def local_sweeps(folder: Path) -> list[Path]:
    """Leases of sweep commands that start runs of ``folder`` on some machine at present."""
    return [path for path in sorted(folder.glob("job/local-*.lock")) if is_held(path)]


def _tell(sock: socket.socket, console: Console) -> None:
    """At once, though a step may take minutes."""
    said = "stopping: what runs comes to the end of its step and saves; a second Ctrl-C ends it at once"
    on_terminal = console.is_terminal  # asked while there is one
    with suppress(OSError):  # closed: the work is over
        while came := sock.recv(1):
            if came == bytes([signal.SIGHUP]):
                console.quiet = on_terminal  # which is gone: words for it would be errors
            elif said:
                console.print(said, style="yellow", soft_wrap=True)
            said = ""


def _end_jobs(jobs: Sequence[tuple[str, QueuedJob]], console: Console) -> bool:
    """scancel this user's; True if SLURM took all of them."""
    mine = [(name, job) for name, job in jobs if job.owner == os.getuid()]
    for name, job in jobs:
        if job.owner != os.getuid():
            console.print(f"left alone: job {job.job_id} of user {job.owner}: {name}", soft_wrap=True)
    is_whole = len(mine) == len(jobs)
    for start in range(0, len(mine), IDS_AT_ONCE):
        part = mine[start : start + IDS_AT_ONCE]
        answer = call(["scancel", *(job.job_id for _, job in part)], 120)
        if answer.code != 0:
            console.print(f"scancel: {answer.reason}", style="red", markup=False, soft_wrap=True)
            is_whole = False
            continue
        for name, job in part:
            console.print(f"cancelled job {job.job_id}, {job.state.lower()}: {name}", soft_wrap=True)
    return is_whole


def _end_process(path: Path, holder: dict[str, Any]) -> str:
    """Ask the process that holds the lease to end; why not, if it is not ours or not here."""
    pid, host = int(holder["pid"]), holder["host"]
    if host != socket.gethostname():
        return f"it runs on {host}: call --cancel there"
    proc = Path("/proc") / str(pid)
    try:
        if proc.stat().st_uid != os.getuid():
            return f"process {pid} is another user's"
        if not any(_is_same(link, path) for link in (proc / "fd").iterdir()):
            return f"process {pid} does not hold {path}"
    except OSError:
        return f"there is no process {pid} here"
    os.kill(pid, signal.SIGTERM)
    return ""


def _is_same(link: Path, path: Path) -> bool:
    try:
        return link.samefile(path)
    except OSError:  # closed meanwhile, or no file
        return False


def _still_held(ending: Sequence[tuple[str, Path]]) -> list[str]:
    """Wait for leases to be dropped; what is left then."""
    end = time.monotonic() + PATIENCE_SECONDS
    left = list(ending)
    while left and time.monotonic() < end:
        left = [(what, path) for what, path in left if is_held(path)]
        time.sleep(0.1)
    return [what for what, _ in left]
