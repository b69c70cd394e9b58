"""No pruning: every sample in every epoch. The reference that other methods are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.pruner import EpochPlan, Pruner


@dataclass
class Full(Pruner):
    def plan(self, epoch: int) -> EpochPlan:
        return EpochPlan(keep=np.ones(self.pool.num_samples, dtype=bool))
