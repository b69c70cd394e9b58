"""RePB (ICLR 2026, openreview Zw1Uw7u6Su): what scores below its window's mean may sit out the next epoch.

In each window of W batches mu is the mean score, s that of a sample before the batch's update. A sample of the
window enters the next epoch if s >= mu, else with probability 1 - rho; so does each sample that this epoch did
not hold. In epoch E, counted from 1, a loss weighs E / N_i(E), N_i(E) the epochs up to E, this one too, whose set
held sample i. The first epoch holds all, and no epoch is full on purpose after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from baselines._scores import Scored
from benchmark.options import require
from benchmark.pool import PoolView
from benchmark.pruner import EpochPlan, State, pack, unpack


@dataclass
class RePB(Scored):
    rho: float = 0.5
    """Probability of sitting out, in [0, 1): of a sample below its window's mean, and of one that sits out
    already. By the paper 30 to 50 % are then pruned."""
    window_batches: int = 1
    """Global batches that share a mean: W."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.rho < 1, "rho", "in [0, 1)", self.rho)
        require(self.window_batches >= 1, "window_batches", "at least 1", self.window_batches)

    def setup(self, pool: PoolView, *, num_epochs: int, seed: int, num_ranks: int = 1) -> None:
        super().setup(pool, num_epochs=num_epochs, seed=seed, num_ranks=num_ranks)
        self.keep_now = np.ones(pool.num_samples, dtype=bool)
        self.times_held = np.ones(pool.num_samples, dtype=np.int32)  # N_i, the present epoch counted
        self._begin()

    def _begin(self) -> None:
        self.stays = self.keep_now.copy()  # until a window says otherwise
        self.batches = 0
        self._open_window()

    def _open_window(self) -> None:
        self.window_ids, self.window_scores = np.zeros(0, dtype=np.int64), np.zeros(0)

    def plan(self, epoch: int) -> EpochPlan:
        weight = np.float32(epoch + 1) / np.maximum(self.times_held, 1)  # [N]; of a sample not held it is not used
        return EpochPlan(self.keep_now, weight.astype(np.float32), observe=True)

    def observe(self, ids: np.ndarray, losses: np.ndarray) -> None:
        # DEVIATION(repb): a score is the mean loss of both directions; the paper's models have one
        score = self.scored(ids, losses).mean(axis=1, dtype=np.float64)
        finite = np.isfinite(score)  # one that is not says nothing of its sample, which stays
        self.window_ids = np.concatenate([self.window_ids, ids[finite]])
        self.window_scores = np.concatenate([self.window_scores, score[finite]])
        self.batches += 1
        if self.batches % self.window_batches == 0:
            self._close_window()

    def end_epoch(self, epoch: int) -> None:
        self._close_window()
        # one draw a sample serves both chances: a sample of this epoch's set has one, all others the other
        drawn = self.rng(epoch).random(len(self.keep_now)) >= self.rho
        # DEVIATION(repb): samples of the last incomplete batch are held and have no score; they stay
        self.keep_now = drawn | self.stays
        self.times_held += self.keep_now
        self._begin()

    def candidates(self) -> Mapping[str, np.ndarray]:
        return {"ill_matched" if self.score == "alignment" else "redundant": ~self.stays}

    def state_dict(self) -> State:
        window = {"window_ids": self.window_ids, "window_scores": self.window_scores, "batches": self.batches}
        masks = {"keep": pack(self.keep_now), "stays": pack(self.stays)}
        return {**super().state_dict(), "times_held": self.times_held, **masks, **window}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        for name in ("times_held", "window_ids", "window_scores", "batches"):
            setattr(self, name, state[name])
        self.keep_now, self.stays = (unpack(state[name], self.pool.num_samples) for name in ("keep", "stays"))

    def _close_window(self) -> None:
        """Also the last, shorter one of an epoch, with its own mean."""
        if len(self.window_ids):
            self.stays[self.window_ids] = self.window_scores >= self.window_scores.mean()
            self._open_window()
