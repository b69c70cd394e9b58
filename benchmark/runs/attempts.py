"""``job/attempts.jsonl``: a line for every attempt at a run, where it ran, how far it came and why it ended.

Written by the process that holds the run's lease. An attempt that ends without a word is closed by the next one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmark.config.launch import LaunchConfig
from benchmark.config.memory import memory_of
from benchmark.files import write_text
from benchmark.runs.folder import RunFolder
from benchmark.signals import Stopped
from benchmark.slurm import this_job

ATTEMPT_MARK = "scan-bench: attempt"
"""Stands in a job's log where an attempt begins: the same file takes all of them."""
WITHOUT_A_WORD = "without a word"
NOT_QUEUED = "SLURM does not queue it again"
"""Stands in the reason of an attempt whose job wanted to go on, and may not."""
MOST_IDLE = 3
"""A job whose last attempts, as many as this, did not come further is not queued again."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One line."""

    number: int
    """From 1."""
    job: str | None
    restart: int
    """How often SLURM had started the job again."""
    node: str
    pid: int
    cpus: int
    """Cores that the first rank may use."""
    memory_gb: float | None
    """What the job had asked for, a node; None where the cluster decided."""
    started: str
    steps_start: int
    """Optimiser steps behind the newest checkpoint, and one for whatever the evaluation has saved; or chunks of a
    pass over features."""
    ended: str | None = None
    steps_end: int | None = None
    why: str | None = None
    cores: int = 0
    gpus: int = 0
    """What the job had asked for, a node: where the cluster decides about memory, it goes by these. 0 in older
    lines."""

    @property
    def was_stopped(self) -> bool:
        """Whether a signal ended it, after it had saved."""
        return (self.why or "").startswith("stopped by")


def attempts_of(folder: RunFolder) -> list[Attempt]:
    """The attempts at a run, oldest first; lines that cannot be read are passed over."""
    try:
        lines = folder.attempts.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Attempt(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


@contextmanager
def attempt(folder: RunFolder, launch: LaunchConfig) -> Iterator[Attempt]:
    """Note an attempt when it starts and, as far as it is given the time, when and why it ends."""
    before = [a if a.why else _closed(a, folder, WITHOUT_A_WORD) for a in attempts_of(folder)]
    this = Attempt(
        number=len(before) + 1,
        job=this_job.job_id(),
        restart=this_job.restart_count(),
        node=this_job.node(),
        pid=os.getpid(),
        cpus=len(os.sched_getaffinity(0)),
        memory_gb=memory_of(launch).gb,
        cores=launch.cores_per_node,
        gpus=launch.gpus,
        started=_now(),
        steps_start=steps_of(folder),
    )
    _write(folder, [*before, this])
    try:
        yield this
    except Stopped as stopped:
        close(folder, str(stopped))
        raise
    except Exception as error:
        close(folder, f"failed: {type(error).__name__}")
        raise
    except BaseException as error:
        close(folder, f"interrupted: {type(error).__name__}")
        raise
    close(folder, "done")


def close(folder: RunFolder, why: str) -> None:
    """Say why the last attempt ended."""
    found = attempts_of(folder)
    _write(folder, [*found[:-1], _closed(found[-1], folder, why)])


def is_idle(folder: RunFolder, job: str) -> bool:
    """Whether the job's last attempts, ``MOST_IDLE`` of them, did not bring the run any further."""
    last = [a for a in attempts_of(folder) if a.job == job][-MOST_IDLE:]
    return len(last) == MOST_IDLE and all((a.steps_end or 0) <= a.steps_start for a in last)


def steps_of(folder: RunFolder) -> int:
    """How far a run stands: its newest checkpoint's step and what its evaluation has saved, or how many chunks a
    pass over features has left."""
    steps = [int(path.stem.removeprefix("step-")) for path in folder.checkpoint.glob("step-*.sha256")]
    return max(steps, default=0) + _num_saved(folder) + sum(1 for _ in folder.glob("chunks/*.npz"))


def count_saved(folder: RunFolder) -> None:
    """Note that the evaluation has come further: a task is recorded, or a part of one is on disk."""
    write_text(folder.saved, f"{_num_saved(folder) + 1}\n")


def _num_saved(folder: RunFolder) -> int:
    try:
        return int(folder.saved.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0


def _closed(attempt: Attempt, folder: RunFolder, why: str) -> Attempt:
    ended = None if why == WITHOUT_A_WORD else _now()
    return dataclasses.replace(attempt, ended=ended, steps_end=steps_of(folder), why=why)


def _write(folder: RunFolder, found: list[Attempt]) -> None:
    write_text(folder.attempts, "".join(json.dumps(dataclasses.asdict(a)) + "\n" for a in found))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
