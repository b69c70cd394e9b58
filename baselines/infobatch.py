"""InfoBatch (arXiv 2303.04947): half of the samples below the mean loss sit out; those that stay count double.

A sample's score is its loss at its latest visit. Epochs are pruned while (epochs done so far + 1) <= delta * E,
as in the authors' package, whose counter stands at 1 in the first epoch: with E = 200 and delta = 0.875, the first
175 epochs are pruned (the very first drops nothing, since all scores are still equal) and the last 25 are full.
Over a run, a share of r * P(score < mean) * delta of all visits is saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from baselines._candidates import all_but
from baselines._scores import Scored
from benchmark.options import require
from benchmark.pool import PoolView
from benchmark.pruner import EpochPlan, State, pack, unpack

INITIAL_SCORE = 3.0
"""Of a sample not yet visited, as in the package; equal scores lie on their mean, so none is below it."""


@dataclass
class Infobatch(Scored):
    prune_ratio: float = 0.5
    """Share of the samples below the mean that sits out an epoch: r; the others of them weigh 1 / (1 - r)."""
    delta: float = 0.875
    """Share of the run, from its start, that is pruned."""
    subtract_batch_mean: bool = False
    """Score by the loss less its batch's mean.

    A contrastive loss depends on its batch: a stale score is compared with values from batches of other samples.
    Off, the rule is the paper's own, which a comparison with InfoBatch has to start from; global batches here
    have one size, so that only their mixture moves the losses.
    """
    correct_negatives: bool = False
    """Also give a kept sample its weight where it is the negative of another.

    A loss's weight alone does not make up for the negatives that sit out: the softmax's denominator is no
    sum over losses. With log w on a negative's logit the denominator estimates that of the full data.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.subtract_batch_mean:
            self.refuse("batch", "subtract_batch_mean", "the score is made of the means that are taken away")
            self.refuse("alignment", "subtract_batch_mean", "a correlation does not move with a batch's losses")
        require(0 <= self.prune_ratio < 1, "prune_ratio", "in [0, 1)", self.prune_ratio)
        require(0 <= self.delta <= 1, "delta", "in [0, 1]", self.delta)

    def setup(self, pool: PoolView, *, num_epochs: int, seed: int, num_ranks: int = 1) -> None:
        super().setup(pool, num_epochs=num_epochs, seed=seed, num_ranks=num_ranks)
        self.scores = np.full(pool.num_samples, INITIAL_SCORE, dtype=np.float32)
        self.is_below = np.zeros(pool.num_samples, dtype=bool)  # the mean, when the present epoch began

    def plan(self, epoch: int) -> EpochPlan:
        total = self.pool.num_samples
        if not self._prunes(epoch):
            return EpochPlan(np.ones(total, dtype=bool))
        below = int(np.count_nonzero(self.is_below))
        staying = int((1 - self.prune_ratio) * below)
        keep = all_but(below - staying, self.is_below, self.rng(epoch))
        factor = np.float32(1 / (1 - self.prune_ratio))
        weight = np.where(keep & self.is_below, factor, np.float32(1))  # float32 [N]
        # DEVIATION(infobatch): the paper's losses are independent; here weights act on a sample's own loss
        # (correct_negatives off) and can also act on it as a negative (on)
        log_negative = np.log(weight) if self.correct_negatives else None
        return EpochPlan(keep, weight, observe=True, log_negative=log_negative)

    def observe(self, ids: np.ndarray, losses: np.ndarray) -> None:
        # DEVIATION(infobatch): a score is the mean loss of both directions; the paper's models have one
        score = self.scored(ids, losses).mean(axis=1, dtype=np.float64)
        finite = np.isfinite(score)  # one NaN would end all pruning: nothing is below a mean of NaN
        if self.subtract_batch_mean and finite.any():
            # DEVIATION(infobatch): optional; off by default, see the option
            score = score - score[finite].mean()
        self.scores[ids[finite]] = score[finite]

    def end_epoch(self, epoch: int) -> None:
        self.is_below = self.scores < self.scores.mean(dtype=np.float64)

    def candidates(self) -> Mapping[str, np.ndarray]:
        return {"ill_matched" if self.score == "alignment" else "redundant": self.is_below}

    def state_dict(self) -> State:
        return {**super().state_dict(), "scores": self.scores, "is_below": pack(self.is_below)}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.scores = state["scores"]
        self.is_below = unpack(state["is_below"], self.pool.num_samples)

    def _prunes(self, epoch: int) -> bool:
        return epoch + 1 <= self.delta * self.num_epochs
