"""Static random pruning: one uniform subset for the whole run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.pruner import PoolView, StaticPruner


@dataclass
class RandomSubset(StaticPruner):
    keep_fraction: float
    """Share of the pool to keep, in (0, 1]: ``round(keep_fraction * N)`` samples."""

    def __post_init__(self) -> None:
        if not 0 < self.keep_fraction <= 1:
            raise ValueError(f"keep_fraction must lie in (0, 1], got {self.keep_fraction}")

    def select(self, pool: PoolView) -> np.ndarray:
        keep = np.zeros(pool.num_samples, dtype=bool)
        count = round(self.keep_fraction * pool.num_samples)
        keep[self.rng(0).choice(pool.num_samples, size=count, replace=False)] = True
        return keep
