"""SCAN's schedule with random samples: it tells which samples SCAN drops from how many, and when.

Warm-up, cycles and candidate counts are SCAN's own, from the losses of this run; every option of ``scan`` holds.
A mutation epoch drops as many samples as SCAN would, drawn afresh and uniformly from the whole pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from baselines._candidates import all_but
from baselines.scan import Scan
from benchmark.pruner import EpochPlan


@dataclass
class ScanRandom(Scan):
    def plan(self, epoch: int) -> EpochPlan:
        scan = super().plan(epoch)
        if scan.observe:
            return scan
        everyone = np.ones(self.pool.num_samples, dtype=bool)
        dropped = int(np.count_nonzero(~scan.keep))
        return EpochPlan(all_but(dropped, everyone, self.rng(epoch)))

    def candidates(self) -> Mapping[str, np.ndarray]:
        return {}  # no sample is likelier to be dropped than another

    def marks(self, epoch: int) -> None:
        return None
