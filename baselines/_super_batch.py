"""What methods share that choose each global batch from a larger one: its size, and the choice by a score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.options import require
from benchmark.pruner import EpochPlan, Pruner


def highest(score: np.ndarray, count: int) -> np.ndarray:
    """float [S] -> int64 [count]: positions of the highest scores, rising; of equal ones the earlier."""
    return np.sort(np.argsort(-score, kind="stable")[:count])


@dataclass
class SuperBatchPruner(Pruner):
    """Reads everything each epoch; subclasses say in ``choose`` what it trains on.

    The number of ranks enters by the last bits of the scores, and by a model's own draws (docs/methods.md).
    """

    select_rate: float = 0.5
    """Share of a super-batch that is trained on, in (0, 1): 0.5 in DISSect's code, 0.2 in its CC3M script."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.select_rate < 1, "select_rate", "between 0 and 1", self.select_rate)

    @property
    def super_batch(self) -> float:
        # DEVIATION(dissect): the batch trained on keeps its size and the one read is larger; the published code
        # trains on a smaller batch, so that its losses have fewer negatives than those of other methods
        return 1 / self.select_rate

    def plan(self, epoch: int) -> EpochPlan:
        return EpochPlan(np.ones(self.pool.num_samples, dtype=bool), super_batch=self.super_batch)
