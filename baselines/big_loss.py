"""The highest losses of each super-batch: hard-example mining, the control for methods that seek difficulty.

``big_loss`` of DISSect's code (arXiv 2507.12998).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from baselines._scores import Scored
from baselines._super_batch import SuperBatchPruner, highest


@dataclass
class BigLoss(Scored, SuperBatchPruner):
    high_is_noise: ClassVar = True

    def choose(
        self, epoch: int, step: int, ids: np.ndarray, losses: np.ndarray, similarity: np.ndarray, count: int
    ) -> np.ndarray:
        # DEVIATION(big_loss): ranked over all ranks; the published code ranks each rank's part alone
        return highest(self.scored(ids, losses).mean(axis=1, dtype=np.float64), count)
