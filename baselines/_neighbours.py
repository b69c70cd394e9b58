"""The k nearest samples of every sample: exact in a small pool, among the nearest cells of k-means in a large one.

Letters in shapes: N samples, k neighbours, K cells, d embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import faiss
import numpy as np

from baselines import _cost, _gpu
from baselines._clusters import cluster
from baselines._clusters import multiply_adds as of_clusters
from baselines._vectors import Joined

ITERATIONS, POINTS = 10, 40
"""Of the k-means that makes cells, and the samples that train a centroid: faiss's own for inverted files."""
QUERIES = 1 << 14
"""Samples that are looked up at once."""


def nearest(
    features: Joined, k: int, exact_below: int, cells: int | None, probes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ids, int64 [N, k], and squared distances, float32 [N, k], of the samples nearest to each, without itself.

    Where fewer than k are found the sample's own id stands at distance inf. ``features`` gives rows as they are
    to be compared. From ``exact_below`` samples on, those of the ``probes`` cells nearest to the own are compared.
    """
    total, device = len(features), _gpu.device()
    ids, distances = np.tile(np.arange(total)[:, None], k), np.full((total, k), np.inf, dtype=np.float32)
    parts = _cells(features, exact_below, cells, probes, seed)
    for queries, others in _cost.steps("cells searched", parts, cells or cells_of(total)):
        rows = np.asarray(features[others])
        places = np.searchsorted(others, queries)
        for start in range(0, len(queries), QUERIES):
            part = queries[start : start + QUERIES]
            here, most = rows[places[start : start + QUERIES]], min(k + 1, len(others))
            if device is None:
                found, which = faiss.knn(here, rows, most)
            else:
                found, which = _gpu.neighbours(here, rows, most, device)
            ids[part], distances[part] = _without_self(part, others[which], found, k)
    return ids, distances


def cells_of(total: int) -> int:
    """faiss's rule for inverted files is 4 to 16 times the root; fewer, as whole cells are multiplied here."""
    return round(2 * math.sqrt(total))


def multiply_adds(total: int, width: int, exact_below: int, cells: int | None, probes: int) -> float:
    """Of ``nearest``, with cells of equal size."""
    if total < exact_below:
        return float(total) ** 2 * width
    count = cells or cells_of(total)
    looked_at = total * min(probes, count) / count
    return of_clusters(total, width, count, ITERATIONS, POINTS) + total * looked_at * width


def _cells(
    features: Joined, exact_below: int, cells: int | None, probes: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ids to look up with the ids to look among."""
    total = len(features)
    if total < exact_below:
        everyone = np.arange(total)
        yield everyone, everyone
        return
    groups = cluster(features, cells or cells_of(total), ITERATIONS, seed, POINTS)
    members = [ids for _, ids in groups.members()]
    probes = min(probes, len(members))
    _, near = faiss.knn(groups.centroids, groups.centroids, probes, metric=faiss.METRIC_INNER_PRODUCT)
    for number, ids in enumerate(members):
        around = {number, *near[number].tolist()}  # zeros can be a centroid that is not nearest to itself
        yield ids, np.sort(np.concatenate([members[other] for other in around]))


def _without_self(
    queries: np.ndarray, ids: np.ndarray, distances: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first k of a row that are not the query, less its distance to itself, which is 0 but for rounding."""
    is_self = ids == queries[:, None]
    own = np.where(is_self, distances, 0).sum(axis=1, keepdims=True)
    order = np.argsort(is_self, axis=1, kind="stable")[:, :k]
    ids, distances = np.take_along_axis(ids, order, 1), np.take_along_axis(distances - own, order, 1)
    distances = np.where(ids == queries[:, None], np.inf, np.maximum(distances, 0))
    missing = k - ids.shape[1]
    if missing > 0:
        ids = np.concatenate([ids, np.tile(queries[:, None], missing)], axis=1)
        distances = np.pad(distances, ((0, 0), (0, missing)), constant_values=np.inf)
    return ids, distances
