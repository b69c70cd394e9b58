"""Self-supervised prototypes, SSP (arXiv 2206.14486): samples far from the centroid of their cluster are hard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from baselines import _clusters, _cost
from baselines._clusters import cluster
from baselines._vectors import check_fraction, lowest
from benchmark.options import check_option
from benchmark.pruner import PoolView, StaticPruner


@dataclass
class Prototypes(StaticPruner):
    keep_fraction: float
    """Share of the pool to keep, in (0, 1]."""
    clusters: int | None = None
    """k-means clusters; None means 1,000 (published: as many as classes), or one for 20 samples."""
    iterations: int = 100
    """Of k-means."""
    keep: str = "hard"
    """``hard`` samples stay where data is plenty (published for ImageNet), ``easy`` ones where it is scarce."""
    balance: float = 0.5
    """Share of an equal part that each cluster keeps at least (the constant of the authors' related code)."""

    needs: ClassVar = ("image_embedding",)

    def __post_init__(self) -> None:
        check_fraction(self.keep_fraction)
        if self.clusters is not None and self.clusters < 1:
            raise ValueError(f"clusters must be at least 1, got {self.clusters}")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance must lie in [0, 1], got {self.balance}")
        check_option("keep", self.keep, ("hard", "easy"))

    def select(self, pool: PoolView) -> np.ndarray:
        total, features = pool.num_samples, pool.features["image_embedding"]
        _cost.announce("prototypes", self.multiply_adds(*features.shape))
        budget = round(self.keep_fraction * total)
        groups = cluster(features, self._count(total), self.iterations, int(self.rng(0).integers(1 << 31)))
        first = groups.similarity if self.keep == "hard" else -groups.similarity
        least = int(budget / len(groups.centroids) * self.balance)
        sure = np.zeros(total, dtype=bool)
        for _, ids in groups.members():
            sure[ids] = lowest(first[ids], min(least, len(ids)))
        # what every cluster keeps at least comes first, then the whole pool in one order
        return lowest(np.where(sure, -np.inf, first), budget)

    def multiply_adds(self, total: int, width: int) -> float:
        """Of a pool of ``total`` samples."""
        return _clusters.multiply_adds(total, width, self._count(total), self.iterations)

    def _count(self, total: int) -> int:
        return self.clusters or min(1000, max(1, total // 20))
