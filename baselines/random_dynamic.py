"""Dynamic random pruning: a fresh uniform subset every epoch, of one size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from baselines._candidates import all_but
from benchmark.pruner import EpochPlan, Pruner


@dataclass
class RandomDynamic(Pruner):
    keep_fraction: float
    """Share of the pool to keep, in (0, 1]: ``round(keep_fraction * N)`` samples, as ``random_subset`` keeps."""

    def __post_init__(self) -> None:
        if not 0 < self.keep_fraction <= 1:
            raise ValueError(f"keep_fraction must lie in (0, 1], got {self.keep_fraction}")

    def plan(self, epoch: int) -> EpochPlan:
        total = self.pool.num_samples
        count = round(self.keep_fraction * total)
        return EpochPlan(all_but(total - count, np.ones(total, dtype=bool), self.rng(epoch)))
