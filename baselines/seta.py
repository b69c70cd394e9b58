"""SeTa (arXiv 2503.13385): samples in groups by their latest loss; a window over the groups slides, easy to hard.

Every epoch draws a random part of the pool, groups it by loss with k-means and trains on neighbouring groups; the
next epoch's window starts one group later, and at the easiest again after the hardest. Steps and defaults follow
the authors' code (mrazhou/SeTa) and its ImageNet runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from baselines._candidates import all_but
from baselines._scores import Scored
from benchmark.options import require
from benchmark.pool import PoolView
from benchmark.pruner import EpochPlan, State, pack, unpack

ITERATIONS = 300
"""Of k-means at most (scikit-learn's default, which the released code uses)."""
CANDIDATES = 512
"""Bounds at equal shares of the losses, and as many at equal distances, among which k-means finds its start."""


@dataclass
class SeTa(Scored):
    prune_ratio: float = 0.0
    """Share that every epoch leaves out at random: r, 0 for ImageNet, 0.1 for CIFAR (released scripts)."""
    groups: int = 5
    """Of losses: G, 5 in the released scripts; 10 is the default of the code."""
    window: float = 0.6
    """Share of the groups that an epoch trains on: alpha, 0.6 for ImageNet, 0.9 for CIFAR; the code has 0.5."""
    delta: float = 0.875
    """Share of the epochs after which the window opens, and samples are left out at random alone (published)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.prune_ratio < 1, "prune_ratio", "in [0, 1)", self.prune_ratio)
        require(self.groups >= 1, "groups", "at least 1", self.groups)
        require(0 < self.window <= 1, "window", "in (0, 1]", self.window)
        require(0 <= self.delta <= 1, "delta", "in [0, 1]", self.delta)
        require(round(self.window * self.groups) >= 1, "window", "wide enough for one of the groups", self.window)

    def setup(self, pool: PoolView, *, num_epochs: int, seed: int, num_ranks: int = 1) -> None:
        super().setup(pool, num_epochs=num_epochs, seed=seed, num_ranks=num_ranks)
        self.loss = np.full(pool.num_samples, np.nan, dtype=np.float32)  # latest; NaN until there is one
        self.keep_now = self._drawn(0)  # the first epoch has no losses to group

    def plan(self, epoch: int) -> EpochPlan:
        slides = epoch + 1 <= self.delta * self.num_epochs
        # the losses of an epoch's own batches must not change its plan, so the mask was made when it began
        return EpochPlan(self.keep_now if slides else self._drawn(epoch), observe=slides)

    def observe(self, ids: np.ndarray, losses: np.ndarray) -> None:
        # DEVIATION(seta): the mean of both directions; published for models with one loss a sample
        loss = self.scored(ids, losses).mean(axis=1)
        finite = np.isfinite(loss)
        self.loss[ids[finite]] = loss[finite]

    def end_epoch(self, epoch: int) -> None:
        self.keep_now = self._in_window(epoch + 1)

    def state_dict(self) -> State:
        return {**super().state_dict(), "loss": self.loss, "keep": pack(self.keep_now)}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.loss[:] = state["loss"]
        self.keep_now = unpack(state["keep"], self.pool.num_samples)

    def _drawn(self, epoch: int) -> np.ndarray:
        """bool [N]: a random part of the pool of the size int((1 - prune_ratio) N), at least one sample."""
        total = self.pool.num_samples
        kept = max(1, int((1 - self.prune_ratio) * total + 1e-9))
        return all_but(total - kept, np.ones(total, dtype=bool), self.rng(epoch))

    def _in_window(self, epoch: int) -> np.ndarray:
        """bool [N]: what is drawn for ``epoch``, less the groups of losses that lie outside the window."""
        keep = self._drawn(epoch)
        # DEVIATION(seta): a sample that has no loss yet stays in; published is a loss of 3, which is easy for a
        # contrastive one and hard for others
        ids = np.flatnonzero(keep & np.isfinite(self.loss))
        if len(ids) == 0:
            return keep
        bounds = split(np.sort(self.loss[ids].astype(np.float64)), self.groups)
        group = np.searchsorted(bounds, self.loss[ids], side="right")
        count = len(bounds) + 1
        width = max(1, round(count * self.window))
        start = epoch % (count - width + 1)
        keep[ids[(group < start) | (group >= start + width)]] = False
        return keep


def split(values: np.ndarray, groups: int) -> np.ndarray:
    """Sorted float64 [n] -> rising bounds, float64 [at most groups - 1], that part them as k-means does.

    A group is what lies from one bound up to below the next, and none is empty.
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    cuts = _first_cuts(values, groups)
    for _ in range(ITERATIONS):
        edges = np.concatenate([[0], cuts, [len(values)]])
        centroids = np.diff(sums[edges]) / np.diff(edges)
        found = np.unique(np.searchsorted(values, (centroids[1:] + centroids[:-1]) / 2))
        found = found[(found > 0) & (found < len(values))]
        if np.array_equal(found, cuts):
            break
        cuts = found
    return values[cuts]


def _first_cuts(values: np.ndarray, groups: int) -> np.ndarray:
    """Sorted float64 [n] -> rising positions, int64 [at most groups - 1]: the least squares of all candidates."""
    # DEVIATION(seta): k-means starts at its optimum over candidate bounds; scikit-learn draws a start (k-means++)
    total = len(values)
    ranks = values[total * np.arange(CANDIDATES) // CANDIDATES]
    marks = np.concatenate([ranks, np.linspace(values[0], values[-1], CANDIDATES)])
    edges = np.unique(np.concatenate([np.searchsorted(values, marks), [0, total]]))  # [m + 1]
    centred = values - values.mean()
    first, second = (np.concatenate([[0.0], np.cumsum(centred**power)])[edges] for power in (1, 2))
    size = edges - edges[:, None]  # [m + 1, m + 1], of the group from one edge to another
    squares = second - second[:, None] - (first - first[:, None]) ** 2 / np.maximum(size, 1)
    squares[size <= 0] = np.inf
    best, came_from = squares[0], []  # of what lies below an edge, in one group, then in two, ...
    for _ in range(1, min(groups, len(edges) - 1)):
        sums = best[:, None] + squares
        came_from.append(sums.argmin(axis=0))
        best = sums.min(axis=0)
    edge, cuts = len(edges) - 1, []
    for origin in reversed(came_from):
        edge = int(origin[edge])
        cuts.append(int(edges[edge]))
    return np.array(cuts[::-1], dtype=np.int64)
