"""Spherical k-means, by faiss on the host or in torch on a GPU, and the samples cluster by cluster.

Letters in shapes: N samples, K clusters, d embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np

from baselines import _cost, _gpu, _kmeans
from baselines._vectors import BLOCK, Features, blocks, unit_rows

POINTS_A_CENTROID = 256
"""faiss's own limit on the samples that centroids are trained on."""
COLUMNS, ROWS = 2048, 8192
"""Samples compared at once: a block of cosines stays at 64 MB for a cluster of any size."""
DECIMALS = 4
"""Of cosines: float16 embeddings give no more. What differs by rounding alone, which varies from call to call (two
samples that are a cluster are equally far from its centroid), is a tie."""


@dataclass(frozen=True)
class Clusters:
    """Samples by their nearest centroid; no cluster is empty."""

    centroids: np.ndarray
    """float32 [K, d] of length 1"""
    of_sample: np.ndarray
    """int64 [N]"""
    similarity: np.ndarray
    """float32 [N]: cosine with the own centroid"""

    @property
    def sizes(self) -> np.ndarray:
        """int64 [K]"""
        return np.bincount(self.of_sample, minlength=len(self.centroids))

    def members(self) -> Iterator[tuple[int, np.ndarray]]:
        """Each cluster with the ids of its samples in rising order."""
        order = np.argsort(self.of_sample, kind="stable")
        yield from enumerate(np.split(order, np.cumsum(self.sizes)[:-1]))


def cluster(
    features: Features, count: int, iterations: int, seed: int, points: int = POINTS_A_CENTROID
) -> Clusters:
    """Group the rows of ``features``, [N, d], into at most ``count`` clusters by cosine.

    Centroids are trained on at most ``points`` samples each, drawn from ``seed``; one that no sample is nearest to
    falls away. With a GPU, centroids are trained and samples assigned there.
    """
    total, width = features.shape
    count = min(count, total)
    rng = np.random.default_rng(seed)
    drawn = min(total, count * points)
    ids = np.sort(rng.choice(total, size=drawn, replace=False)) if drawn < total else np.arange(total)
    sample = unit_rows(features, ids)
    seed %= 1 << 31
    device = _gpu.device()
    if device is not None:
        return _assign(features, _kmeans.train(sample, count, iterations, seed, device))
    kmeans = faiss.Kmeans(
        *(width, count),
        niter=iterations,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=points,
        verbose=multiply_adds(total, width, count, iterations, points) > _cost.LONG,  # a line an iteration
    )
    kmeans.train(sample)
    return _assign(features, np.ascontiguousarray(kmeans.centroids, dtype=np.float32))


def multiply_adds(total: int, width: int, count: int, iterations: int, points: int = POINTS_A_CENTROID) -> float:
    """Of ``cluster``: training points and all samples, each with every centroid."""
    count = min(count, total)
    return float(count) * width * (iterations * min(total, count * points) + total)


def _assign(features: Features, centroids: np.ndarray) -> Clusters:
    device = _gpu.device()
    index = faiss.IndexFlatIP(centroids.shape[1])
    index.add(centroids)
    nearest, similarity = np.empty(len(features), dtype=np.int64), np.empty(len(features), dtype=np.float32)
    for here, rows in _cost.steps("blocks of samples to clusters", blocks(features), len(features) // BLOCK + 1):
        if device is not None:
            similarity[here], nearest[here] = _gpu.nearest(rows, centroids, device)
            continue
        found, which = index.search(rows, 1)
        nearest[here], similarity[here] = which[:, 0], found[:, 0]
    used, of_sample = np.unique(nearest, return_inverse=True)
    return Clusters(centroids[used], of_sample, np.round(similarity, DECIMALS))


def redundancy(features: np.ndarray, groups: Clusters, first: np.ndarray) -> np.ndarray:
    """float32 [N], at least 0: a sample's largest cosine with one of its cluster that has a lower ``first``, [N].

    The earlier sample need not be kept itself, as published (SemDeDup): chains lose more than a greedy pass would.
    """
    found = np.zeros(len(features), dtype=np.float32)
    for _, ids in _cost.steps("clusters compared within", groups.members(), len(groups.centroids)):
        ordered = ids[np.argsort(first[ids], kind="stable")]
        found[ordered] = largest_before(unit_rows(features, ordered))
    return found


def largest_before(rows: np.ndarray) -> np.ndarray:
    """float32 [n, d] -> float32 [n]: each row's largest product with an earlier row, at least 0."""
    device = _gpu.device()
    if device is not None:
        return np.round(_gpu.largest_before(rows, device), DECIMALS)
    found = np.zeros(len(rows), dtype=np.float32)
    for start in range(0, len(rows), COLUMNS):
        columns = rows[start : start + COLUMNS]
        for first in range(0, start, ROWS):
            products = rows[first : min(first + ROWS, start)] @ columns.T
            np.maximum(found[start : start + COLUMNS], products.max(axis=0), out=found[start : start + COLUMNS])
        own = np.triu(columns @ columns.T, k=1).max(axis=0)
        np.maximum(found[start : start + COLUMNS], own, out=found[start : start + COLUMNS])
    return np.round(found, DECIMALS)
