"""Where each run of a sweep stands: what its folder says, and for what has not ended what SLURM's queue says.

Disk is the truth. A queue that does not answer makes no run fail: its runs are *unknown* until it does.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

from benchmark.plan import PlannedRun
from benchmark.queued import Queue
from benchmark.record import ERROR_FILE
from benchmark.state import State, state_of
from benchmark.submissions import SUBMITTED_FILE

SETTLED = ("done", "failed", "unreadable", "blocked", "stopped", "absent", "partial", "waiting")
"""States that stay as they are as long as nobody starts anything; see ``is_settled``."""
ENDINGS = {
    r"oom[-_ ]?kill|out[- ]of[- ]memory|exceeded (job |step )?memory limit": "killed for want of memory: raise"
    " launch.memory_gb",
    r"DUE TO TIME LIMIT": "out of time: it goes on from its checkpoint",
    r"DUE TO NODE FAILURE|NODE_FAIL": "its node failed",
    r"DUE TO PREEMPTION": "preempted",
    r"CANCELLED AT|Terminated|KeyboardInterrupt": "cancelled",
}
"""What a job's log says of its end."""
TAIL_BYTES = 20_000
ENDING_SECONDS = 30.0
"""For so long after a job's end, a record or error that is not there may be one that the file system does not show
yet: network file systems keep what they know of a folder for up to a minute, half of it as a rule."""
LEAVES_A_WORD = ("COMPLETED", "FAILED")
"""Ends of jobs whose run has written a record or an error."""


def with_states(runs: Sequence[PlannedRun], queue: Queue | None = None) -> list[PlannedRun]:
    """The runs with their states read again.

    Besides what a folder says (``state_of``): *queued*; *waiting* for runs that are not done; *blocked* by one
    that cannot be; *stopped*, its job left the queue without a record; *unknown*, SLURM does not answer.
    """
    queue = queue or Queue()
    fresh: dict[str, PlannedRun] = {}
    for run in runs:
        state = state_of(run.folder, run.config)
        if state.name not in ("done", "running", "unreadable"):
            state = _in_queue(run, state, queue)
        if state.name in ("absent", "partial", "stopped", "queued"):
            hindrance = _hindrance([fresh[name] for name in run.config.waits_for])
            if hindrance is not None and state.name == "queued":
                hint = f"; {state.detail}" if ":" in state.detail else ""
                state = State("queued", f"{hindrance.name} {hindrance.detail}{hint}")
            elif hindrance is not None:
                state = hindrance
        fresh[run.config.name] = dataclasses.replace(run, state=state)
    return list(fresh.values())


def is_settled(runs: Sequence[PlannedRun]) -> bool:
    """Whether nothing changes any more by itself."""
    return all(run.state.name in SETTLED for run in runs)


def log_of(run: PlannedRun, job_id: str | None) -> Path | None:
    """What the run's last process printed, on SLURM or on this machine; None if there is none."""
    name = f"{job_id}_0_log.out"
    for path in (run.folder.parent / "job" / name, run.folder / "job" / name):
        if job_id is not None and path.exists():
            return path
    logs = sorted(run.folder.glob("job/*_0_log.out"), key=lambda path: path.stat().st_mtime)
    return logs[-1] if logs else None


def _in_queue(run: PlannedRun, state: State, queue: Queue) -> State:
    """The state of a run that is neither done nor held by a process we can see."""
    name = run.config.name
    job = queue.jobs.get(name)
    if state.name == "failed" and not (job is not None and job.state == "PENDING") and _failed_since(run.folder):
        return state
    if job is not None:
        if job.is_running:
            return State("running", "ending" if job.state == "COMPLETING" else "starting")
        return State("queued", job.hint)
    if name in queue.in_doubt and state.name != "failed":
        told = f"SLURM does not answer ({queue.silent})" if queue.silent else "SLURM does not show its job yet"
        return State("unknown", f"was being submitted; {told}")
    if name not in queue.submitted or state.name == "failed":
        return state
    if queue.silent:
        return State("unknown", f"submitted as {queue.submitted[name]}; SLURM does not answer")
    os.listdir(run.folder)  # makes a network file system look again, before we say that there is no record
    state = state_of(run.folder, run.config)
    if state.name not in ("absent", "partial"):
        return state
    ended = queue.ended.get(name)
    if ended is not None and ended.state in LEAVES_A_WORD and ended.seconds_since_end < ENDING_SECONDS:
        return State("running", "ending")
    return _ended(run, queue.submitted[name])


def _failed_since(folder: Path) -> bool:
    """Whether a run's error is newer than its submission."""
    try:
        return (folder / ERROR_FILE).stat().st_mtime_ns >= (folder / SUBMITTED_FILE).stat().st_mtime_ns
    except FileNotFoundError:
        return True


def _ended(run: PlannedRun, job_id: str) -> State:
    """The state of a run whose job left the queue while its folder holds neither record nor error."""
    log = log_of(run, job_id)
    if log is None:
        return State("stopped", f"job {job_id} left the queue before it began (cancelled?)")
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        tail = file.read().decode(errors="replace")
    for pattern, ending in ENDINGS.items():
        if re.search(pattern, tail):
            memory = "memory" in ending  # the same again would end in the same way
            return State("failed" if memory else "stopped", f"{ending}; see {log}")
    return State("stopped", f"job {job_id} ended without a word; see {log}")


def _hindrance(others: Sequence[PlannedRun]) -> State | None:
    """What keeps a run from starting that waits for ``others``; None if all of them are done."""
    for other in others:
        if other.state.name in ("failed", "unreadable", "blocked"):
            return State("blocked", f"by {other.config.name}, which is {other.state.name}")
    left = [other.config.name for other in others if other.state.name != "done"]
    return State("waiting", f"for {', '.join(left)}") if left else None
