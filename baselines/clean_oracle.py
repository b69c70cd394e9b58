"""A control that sees planted truth: every planted sample is left out. What a perfect choice would bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchmark.pruner import PoolView, StaticPruner


@dataclass
class CleanOracle(StaticPruner):
    """Only where faults are planted. Of near-duplicates the copies go, their originals stay."""

    uses_truth: ClassVar = True

    def select(self, pool: PoolView) -> np.ndarray:
        flags = [flag for flag in pool.truth.values() if flag.dtype == np.bool_]
        if not any(flag.any() for flag in flags):
            raise ValueError("clean_oracle leaves out planted samples, and this pool has none: give it a plant")
        return ~np.logical_or.reduce(flags)
