"""What a rehearsed job left in its folder, in seconds and bytes."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.job import JobConfig
from benchmark.config.run import RunConfig
from benchmark.job.feature_pass import CHUNK
from benchmark.runs.attempts import Attempt, attempts_of
from benchmark.runs.folder import RunFolder
from benchmark.runs.record import read_record

FIRST_STEPS = 3
"""Not counted: memory is laid out, kernels are chosen."""


@dataclass(frozen=True)
class Usage:
    """What the job took of the machine, at most."""

    memory_bytes: int
    """Of all processes on the node that took the most; shared pages once."""
    gpu_bytes: int
    gpu_total_bytes: int
    shared_bytes: int
    """In ``/dev/shm``."""
    shared_total_bytes: int
    open_files: int
    """Of one process."""
    most_open_files: int
    first_seconds: float
    """From the start of the job's work to its first step, or first chunk of features."""


@dataclass(frozen=True)
class Steps:
    """Seconds of an optimiser step."""

    computing: float
    loading: float
    """A worker's for this rank's part of one batch, all workers being at work; without workers the wait itself."""
    checkpoint: float

    def together(self, num_workers: int) -> float:
        """Of a step once workers are ahead as far as they can be."""
        return max(self.computing, self.loading / num_workers) if num_workers else self.computing + self.loading


@dataclass(frozen=True)
class Measured:
    usage: Usage
    device: str
    has_gone_on: bool
    """Whether it was stopped half way and went on from what it had saved."""
    steps: Steps | None = None
    evaluation: tuple[float, ...] = ()
    """Seconds of each task."""
    skipped: tuple[str, ...] = ()
    """Why a task was skipped."""
    has_pruned: bool = False
    sample_seconds: float | None = None
    """Of a pass over features: one rank's for a sample."""


def measure(folder: RunFolder, config: JobConfig) -> Measured:
    """Of a job that is done. Raises OSError and ValueError if what it should have left is not there."""
    usage, is_resumed = _usage(folder, config.launch.num_ranks), _has_gone_on(attempts_of(folder))
    if not isinstance(config, RunConfig):
        left = folder.features if isinstance(config, FeatureConfig) else folder.choice
        facts = json.loads(left.read_text(encoding="utf-8"))
        if not isinstance(config, FeatureConfig):
            return Measured(usage, facts["device"], is_resumed)
        at_work = min(facts["num_ranks"], math.ceil(facts["num_samples"] / CHUNK))
        encoding = max(0.0, facts["seconds"] - usage.first_seconds)
        each = encoding * at_work / facts["num_samples"]
        return Measured(usage, facts["device"], is_resumed, sample_seconds=each)
    record = read_record(folder.record)
    full = record["training"]["samples_full"] // record["training"]["epochs"]
    return Measured(
        usage,
        record["device"],
        is_resumed,
        steps=_steps(folder, config.train.num_workers),
        evaluation=tuple(entry["seconds"] for entry in record["evaluation_seconds"]),
        skipped=tuple(entry["reason"] for entry in record["evaluation_skipped"]),
        has_pruned=any(row["kept"] < full for row in record["training"]["by_epoch"]),
    )


def _steps(folder: RunFolder, num_workers: int) -> Steps:
    lines = [json.loads(line) for line in folder.log.read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    computing, waits, first_waits = [], [], [steps[0]["data_seconds"]]
    for before, line in pairwise(steps):
        waited = line["data_seconds"] - before["data_seconds"]
        if line["epoch"] == before["epoch"]:
            computing.append(line["seconds"] - before["seconds"] - waited)
            waits.append(waited)
        else:  # workers begin anew: one of them, all being at work, takes this long for a batch
            first_waits.append(waited)
    kept = slice(FIRST_STEPS if len(computing) > 2 * FIRST_STEPS else 0, None)
    later = first_waits[1:] or first_waits  # at the very first they also had to be started
    newest = max(folder.checkpoint.glob("step-*.sha256"))
    checkpoint = newest.stat().st_mtime - folder.log.stat().st_mtime  # the last line is written just before it
    loading = median(later) if num_workers else median(waits[kept] or first_waits)
    return Steps(median(computing[kept] or [steps[-1]["seconds"]]), loading, max(0.0, checkpoint))


def _usage(folder: RunFolder, num_ranks: int) -> Usage:
    ranks: list[dict[str, Any]] = [json.loads(folder.usage(rank).read_text()) for rank in range(num_ranks)]
    on_node: dict[str, int] = defaultdict(int)
    for rank in ranks:
        on_node[rank["node"]] += rank["memory_bytes"]
    most = {key: max(rank[key] for rank in ranks) for key in Usage.__dataclass_fields__}
    return Usage(**{**most, "memory_bytes": max(on_node.values())})


def _has_gone_on(attempts: list[Attempt]) -> bool:
    return any(
        before.was_stopped and 0 < (before.steps_end or 0) <= after.steps_start
        for before, after in pairwise(attempts)
    )
