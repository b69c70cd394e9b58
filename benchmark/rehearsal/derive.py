"""From the jobs of a plan to those of its rehearsal: the same model, options and launch, on less data.

A job is changed by the fields that it has (``pool``, ``train``, ``evaluate``, ...), whatever its kind.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark.config.job import JobConfig
from benchmark.config.run import TENSORBOARD, Choice, RunConfig
from benchmark.options import plain
from benchmark.plan.plan import PlannedRun
from benchmark.plan.schedule import schedule_of
from benchmark.pool.samples import PoolError
from benchmark.pool.source import make_source
from benchmark.pruner import make_pruner
from benchmark.rehearsal.evaluation import Slicer
from benchmark.rehearsal.standins import StandIns

STEPS = 10
"""Optimiser steps of an epoch on full data, or one for each loader worker where there are more."""
LEAST_STEPS = 3
"""Of an epoch that leaves samples out."""
MOST_EPOCHS = 8
MINUTES = 30
"""Time limit of a rehearsal's jobs, where the runs' own is not shorter still."""
TARGET_IMAGES = 256


@dataclass(frozen=True)
class Pool:
    """What the jobs on one pool read in the rehearsal."""

    choice: Choice
    samples: int
    whole: int | None
    """Samples of the pool itself; None where nothing tells."""
    missing: str = ""
    """Why it cannot be opened: then a stand-in is read."""


@dataclass
class Deriver:
    """Makes the rehearsal's jobs; pools and evaluations are opened once, here."""

    standins: StandIns
    slicer: Slicer = field(init=False)
    pools: dict[str, Pool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slicer = Slicer(self.standins)

    def prepare(self, runs: Sequence[PlannedRun]) -> None:
        """Open the pools, or write what stands in for them: one part of a pool for all of its jobs."""
        for run in runs:
            key = key_of(run.config.pool)
            if key not in self.pools:
                jobs = [other.config for other in runs if key_of(other.config.pool) == key]
                self.pools[key] = self._pool(run, max(map(samples_for, jobs)))

    def derive(self, config: JobConfig) -> JobConfig:
        """The job in small, under its own name."""
        changes: dict[str, Any] = {
            "pool": self.pools[key_of(config.pool)].choice,
            "launch": dataclasses.replace(
                config.launch,
                minutes=min(config.launch.minutes, MINUTES),
                evaluate={},  # by the run itself
            ),
        }
        if isinstance(config, RunConfig):
            train = dataclasses.replace(config.train, epochs=epochs_for(config), log_every=1)
            slices = [part for choice in config.evaluate for part in self.slicer.of(choice).slices]
            changes |= {"train": train, "evaluate": tuple(slices), "log": (TENSORBOARD,)}
        elif getattr(config, "target", None) is not None:
            asked = {"of": {config.target.name: config.target.options}, "num_samples": TARGET_IMAGES}  # type: ignore[union-attr]
            changes["target"] = Choice(name="subset", options=asked)
        return dataclasses.replace(config, **changes)

    def _pool(self, run: PlannedRun, needed: int) -> Pool:
        config = run.config
        try:
            whole = make_source(config.pool, "pool").training_pool().num_samples
        except PoolError as error:
            samples = min(needed, run.samples or needed)
            choice = self.standins.pool(config.framework, config.pool, samples)
            return Pool(choice, samples, run.samples, str(error))
        if whole <= needed:
            return Pool(config.pool, whole, whole)
        asked = {"of": {config.pool.name: config.pool.options}, "num_samples": needed}
        return Pool(Choice(name="subset", options=plain(asked)), needed, whole)


def key_of(pool: Choice) -> str:
    return json.dumps([pool.name, plain(pool.options)], sort_keys=True)


def epochs_for(config: RunConfig) -> int:
    """So many that each kind of epoch of the training comes, and two more: real losses may fall for longer."""
    epochs = config.train.epochs
    kinds = schedule_of(config.pruner, epochs).kinds
    enough = (e for e in range(1, MOST_EPOCHS - 2) if kinds and schedule_of(config.pruner, e).kinds >= kinds)
    return min(epochs, next(enough, MOST_EPOCHS - 2) + 2)


def samples_for(config: JobConfig) -> int:
    """Of the pool: steps enough for loader workers to take turns, also of what a method keeps."""
    if not isinstance(config, RunConfig):
        return 0
    train, method = config.train, make_pruner(config.pruner, "pruner")
    kept = getattr(method, "keep_fraction", None) or 1.0
    steps = max(STEPS, train.num_workers)
    return math.ceil(train.batch_size * method.super_batch * max(steps, LEAST_STEPS / kept))
