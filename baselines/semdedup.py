"""SemDeDup (arXiv 2303.09540): within clusters of images, samples that resemble an earlier one are dropped.

Embeddings are clustered; a cluster's samples are taken in an order, and each is as redundant as its largest
cosine with any before it. Steps and defaults follow the authors' code (facebookresearch/SemDeDup).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from baselines import _clusters, _cost
from baselines._clusters import cluster, redundancy
from baselines._vectors import check_fraction, lowest
from benchmark.options import check_option
from benchmark.pruner import PoolView, StaticPruner


@dataclass
class SemDeDup(StaticPruner):
    keep_fraction: float
    """Share of the pool to keep, in (0, 1]; the published threshold 1 - eps is set to meet it exactly."""
    clusters: int | None = None
    """k-means clusters; None means one for 1,000 samples. Published: 50,000 for LAION's 440 M, 8,800 a cluster."""
    iterations: int = 100
    """Of k-means; published ``niter`` (the configuration of the released code)."""
    keep: str = "hard"
    """Which of a group of near-duplicates stays: the ``hard``-est, farthest from the centroid (published default),
    the ``easy``-est, or a ``random`` one."""

    needs: ClassVar = ("image_embedding",)

    def __post_init__(self) -> None:
        check_fraction(self.keep_fraction)
        if self.clusters is not None and self.clusters < 1:
            raise ValueError(f"clusters must be at least 1, got {self.clusters}")
        check_option("keep", self.keep, ("hard", "easy", "random"))

    def select(self, pool: PoolView) -> np.ndarray:
        features = pool.features["image_embedding"]
        _cost.announce("semdedup", self.multiply_adds(*features.shape))
        groups = cluster(
            features, self._count(pool.num_samples), self.iterations, int(self.rng(0).integers(1 << 31))
        )
        chance = self.rng(0, 1).random(pool.num_samples, dtype=np.float32)
        first = {"hard": groups.similarity, "easy": -groups.similarity, "random": chance}[self.keep]
        return lowest(redundancy(features, groups, first), round(self.keep_fraction * pool.num_samples))

    def multiply_adds(self, total: int, width: int) -> float:
        """Of a pool of ``total`` samples: k-means, and all pairs of clusters of equal size."""
        count = self._count(total)
        return _clusters.multiply_adds(total, width, count, self.iterations) + total**2 / count * width

    def _count(self, total: int) -> int:
        # DEVIATION(semdedup): one cluster for 1,000 samples where the paper has 8,800: within a cluster all pairs
        # are compared, and its 50,000 clusters of a small pool would part most duplicates
        return self.clusters or max(1, round(total / 1000))
