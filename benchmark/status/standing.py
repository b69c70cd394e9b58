"""Where each run of a sweep stands: what its folder says, and for what has not ended what SLURM's queue says.

Disk is the truth. A queue that does not answer makes no run fail: its runs are *unknown* until it does.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from benchmark.config.job import load_config
from benchmark.config.launch import LaunchConfig
from benchmark.config.memory import memory_of
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.runs.attempts import NOT_QUEUED, WITHOUT_A_WORD, Attempt, attempts_of
from benchmark.runs.folder import RunFolder
from benchmark.runs.lease import holder_of, is_locked
from benchmark.runs.state import State, state_at_rest
from benchmark.status.endings import NO_MEMORY, slurms_word, tail_of, told_by
from benchmark.status.queue import Queue

SETTLED = ("done", "failed", "unreadable", "blocked", "stopped", "absent", "partial", "waiting")
"""States that stay as they are as long as nobody starts anything; see ``is_settled``."""
ENDING_SECONDS = 30.0
"""For so long after a job's end, a record or error that is not there may be one that the file system does not show
yet: network file systems keep what they know of a folder for up to a minute, half of it as a rule."""
LEAVES_A_WORD = ("COMPLETED", "FAILED")
"""Ends of jobs whose run has written a record or an error."""


def with_states(runs: Sequence[PlannedRun], queue: Queue | None = None) -> list[PlannedRun]:
    """The runs with their states read again.

    Besides what a folder says (``read_state``): *queued*; *waiting* for runs that are not done; *blocked* by one
    that cannot be; *stopped*, its job left the queue without a record; *unknown*, SLURM does not answer.
    """
    queue = queue or Queue()
    fresh: dict[str, PlannedRun] = {}
    for run in runs:
        state = _on_disk(run, queue)
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
    state = _on_disk(run, queue)
    if state.name not in ("absent", "partial"):
        return state
    ended, job_id = queue.ended.get(name), queue.submitted[name]
    may_show_late = ended is not None and ended.state in LEAVES_A_WORD and ended.seconds_since_end < ENDING_SECONDS
    if may_show_late and not told_by(tail_of(log_of(run, job_id))):
        return State("running", "ending")
    return _ended(run, job_id)


def _on_disk(run: PlannedRun, queue: Queue) -> State:
    state = run.read_state()
    is_gone = state.name == "running" and _is_gone(run, queue)
    return state_at_rest(run.folder, run.config) if is_gone else state


def _is_gone(run: PlannedRun, queue: Queue) -> bool:
    """Whether only a young heartbeat speaks for a run whose job SLURM does not run any more: its node is dead."""
    lease = run.folder.lease
    holder = None if is_locked(lease) else holder_of(lease)
    job = queue.jobs.get(run.config.name)
    return (
        holder is not None
        and not queue.silent
        and holder.get("job") is not None
        and holder["job"] == queue.submitted.get(run.config.name)
        and (job is None or not job.is_running)
    )


def _failed_since(folder: RunFolder) -> bool:
    """Whether a run's error is newer than its submission."""
    try:
        return folder.error.stat().st_mtime_ns >= folder.submitted.stat().st_mtime_ns
    except FileNotFoundError:
        return True


def _ended(run: PlannedRun, job_id: str) -> State:
    """The state of a run whose job left the queue while its folder holds neither record nor error."""
    log, attempts = log_of(run, job_id), attempts_of(run.folder)
    last = attempts[-1] if attempts else None
    words = tail_of(log)
    ending = told_by(words)
    if not ending or ending.startswith("killed (SIGKILL)"):  # SLURM may know better
        ending = slurms_word(job_id) or ending
    if ending == NO_MEMORY:
        return _short_of_memory(run, last if last is not None and last.job == job_id else None, log)
    told = str(last.why) if last is not None and last.job == job_id and last.why else WITHOUT_A_WORD
    if NOT_QUEUED in told or (not ending and told != WITHOUT_A_WORD):
        ending = told
    if log is None:
        return State("stopped", f"job {job_id} left the queue before it began ({ending or 'cancelled?'})")
    return State("stopped", f"{ending or f'job {job_id} ended without a word'}; see {log}")


def is_refused(run: PlannedRun) -> bool:
    """Whether not even --retry takes a run again: the same again would end in the same way."""
    return run.state.name == "failed" and run.state.detail.startswith(NO_MEMORY)


def _short_of_memory(run: PlannedRun, last: Attempt | None, log: Path | None) -> State:
    """*failed* as long as the run asks for no more memory than it had; then *stopped*, to be taken again.

    A job that was killed before its attempt began had what the run's folder says: that is written to be submitted.
    """
    launch, asks = run.config.launch, memory_of(run.config.launch)
    had = _asked_on_disk(run.folder) if last is None else (last.memory_gb, last.cores, last.gpus)
    if _has_grown(had, launch):
        return State("stopped", f"{NO_MEMORY}{_with(had)}; it now asks for {asks.said or 'more cores or GPUs'}")
    return State(
        "failed", f"{NO_MEMORY}{_with(had)}: raise {asks.option}, it is not taken again before; see {log}"
    )


def _has_grown(had: tuple[float | None, int, int], launch: LaunchConfig) -> bool:
    """Whether a job would get more memory on a node; where the cluster decides, it is by cores or GPUs."""
    gb, asks = had[0], memory_of(launch).gb
    if asks is not None:
        return asks > (gb or 0)
    return gb is None and bool(had[1]) and (launch.cores_per_node > had[1] or launch.gpus > had[2])


def _with(had: tuple[float | None, int, int]) -> str:
    return f" with {had[0]:g} GB a node" if had[0] is not None else ""


def _asked_on_disk(folder: RunFolder) -> tuple[float | None, int, int]:
    try:
        launch = load_config(folder.config).launch
    except ConfigError:
        return None, 0, 0
    return memory_of(launch).gb, launch.cores_per_node, launch.gpus


def _hindrance(others: Sequence[PlannedRun]) -> State | None:
    """What keeps a run from starting that waits for ``others``; None if all of them are done."""
    for other in others:
        if other.state.name in ("failed", "unreadable", "blocked"):
            return State("blocked", f"by {other.config.name}, which is {other.state.name}")
    left = [other.config.name for other in others if other.state.name != "done"]
    return State("waiting", f"for {', '.join(left)}") if left else None
