"""DISSect (arXiv 2507.12998): leave out the pairs whose similarity has lately risen most against an earlier model.

A pair's similarity is c = max(0, 100 cos) under the present model; its history h is an earlier c. True pairs are
learned first; a pair whose similarity rises only later is likelier to be noise that the model memorises. Of each
super-batch, those with the highest h - c are trained on. Rules and constants are those of the authors' code.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from baselines._super_batch import SuperBatchPruner, highest
from benchmark.options import check_option, require
from benchmark.pool import PoolView
from benchmark.pruner import State

logger = logging.getLogger(__name__)
DECAY = np.float32(0.9)


@dataclass
class Dissect(SuperBatchPruner):
    variant: str = "warmup"
    """``warmup``: h is c at the last warm-up epoch, both less their means over the super-batch.
    ``momentum``: h is a moving average of c with decay 0.9 from the first epoch on, and nothing is subtracted.
    """
    warmup_epochs: int = 5
    """First epochs, trained on a random ``select_rate`` of each super-batch: 5 in the code, 10 in its CC3M script.
    Of ``warmup`` alone; ``momentum`` selects from the start."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_option("variant", self.variant, ("warmup", "momentum"))
        require(self.warmup_epochs >= 1, "warmup_epochs", "at least 1", self.warmup_epochs)

    def setup(self, pool: PoolView, *, num_epochs: int, seed: int, num_ranks: int = 1) -> None:
        super().setup(pool, num_epochs=num_epochs, seed=seed, num_ranks=num_ranks)
        if self.variant == "warmup" and self.warmup_epochs >= num_epochs:
            logger.warning(
                "warmup_epochs %d covers all %d epochs: every batch is random", self.warmup_epochs, num_epochs
            )
        self.history = np.full(pool.num_samples, np.nan, dtype=np.float32)  # NaN: never scored

    def choose(
        self, epoch: int, step: int, ids: np.ndarray, losses: np.ndarray, similarity: np.ndarray, count: int
    ) -> np.ndarray:
        # DEVIATION(dissect): means and ranks are over the super-batch of all ranks; the published code takes each
        # rank's part alone, so that its choice depends on the number of ranks
        now = np.maximum(0, 100 * similarity.astype(np.float32))
        chosen = self._momentum if self.variant == "momentum" else self._warmup
        return chosen(epoch, step, ids, now, count)

    def _warmup(self, epoch: int, step: int, ids: np.ndarray, now: np.ndarray, count: int) -> np.ndarray:
        if epoch < self.warmup_epochs:
            self.history[ids] = now
            return np.sort(self.rng(epoch, step).choice(len(ids), size=count, replace=False))
        # DEVIATION(dissect): a pair that no warm-up batch held starts its history now; the published code takes 0
        fresh = np.isnan(self.history[ids])
        self.history[ids[fresh]] = now[fresh]
        before = self.history[ids]
        return highest((before - before.mean()) - (now - now.mean()), count)

    def _momentum(self, epoch: int, step: int, ids: np.ndarray, now: np.ndarray, count: int) -> np.ndarray:
        before = self.history[ids]
        fresh = np.isnan(before)
        # a first visit compares with 0, as published: the least similar of a first epoch are chosen
        score = np.where(fresh, 0, before) - now
        self.history[ids] = np.where(fresh, now, DECAY * before + (1 - DECAY) * now)
        return highest(score, count)

    def state_dict(self) -> State:
        return {"history": self.history}

    def load_state_dict(self, state: State) -> None:
        self.history = state["history"]
