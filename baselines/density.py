"""Density-based pruning, DBP (arXiv 2401.04578): clusters that are wide and far from others keep more samples.

Shown in the paper's tables as "D-Pruning (density-based; mapping inferred)": the SCAN paper does not say which
method it means, and this one fits best. Steps and defaults follow the authors' released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from baselines import _clusters, _cost
from baselines._clusters import Clusters, cluster, redundancy
from baselines._vectors import check_fraction, lowest
from benchmark.options import check_option
from benchmark.pruner import PoolView, StaticPruner

NEIGHBOURS = 20
"""Other centroids whose distance counts (published)."""


@dataclass
class Density(StaticPruner):
    keep_fraction: float
    """Share of the pool to keep, in (0, 1]."""
    clusters: int | None = None
    """k-means clusters; None means 500, or one for 20 samples in a small pool. Published: 500 (LAION, 280 M)."""
    iterations: int = 100
    """Of k-means."""
    temperature: float = 0.5
    """Of the softmax over the clusters' complexities (released code)."""
    balance: float = 0.5
    """Share of an equal part that each cluster keeps at least (released code)."""
    keep: str = "hard"
    """Which samples of a cluster stay: ``hard``, farthest from its centroid (published), ``easy``, ``random``."""
    duplicate_above: float | None = None
    """Drop samples first whose cosine with an earlier one of their cluster is above this (SemDeDup): the authors
    call it a precondition, and give no threshold."""

    needs: ClassVar = ("image_embedding",)

    def __post_init__(self) -> None:
        check_fraction(self.keep_fraction)
        if self.clusters is not None and self.clusters < 1:
            raise ValueError(f"clusters must be at least 1, got {self.clusters}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance must lie in [0, 1], got {self.balance}")
        check_option("keep", self.keep, ("hard", "easy", "random"))

    def select(self, pool: PoolView) -> np.ndarray:
        total, features = round(self.keep_fraction * pool.num_samples), pool.features["image_embedding"]
        _cost.announce("density", self.multiply_adds(*features.shape))
        keep = np.zeros(pool.num_samples, dtype=bool)
        # DEVIATION(density): by default not deduplicated first, and never filtered by CLIP score, as published
        left = self._without_duplicates(features, total)
        keep[left] = self._choose(features if len(left) == len(features) else features[left], total)
        return keep

    def multiply_adds(self, total: int, width: int) -> float:
        """Of a pool of ``total`` samples, none of which is a duplicate."""
        found = _clusters.multiply_adds(total, width, self._count(total), self.iterations)
        if self.duplicate_above is not None:
            count = max(1, round(total / 1000))
            found += _clusters.multiply_adds(total, width, count, self.iterations) + total**2 / count * width
        return found

    def _count(self, total: int) -> int:
        return self.clusters or min(500, max(1, total // 20))

    def _choose(self, features: np.ndarray, total: int) -> np.ndarray:
        """float [n, d] -> bool [n]: ``total`` of the samples that duplicates left."""
        count = self._count(len(features))
        groups = cluster(features, count, self.iterations, int(self.rng(0).integers(1 << 31)))
        budget = shares(complexity(groups), groups.sizes, total, self.temperature, self.balance)
        chance = self.rng(0, 1).random(len(features), dtype=np.float32)
        first = {"hard": groups.similarity, "easy": -groups.similarity, "random": chance}[self.keep]
        keep = np.zeros(len(features), dtype=bool)
        for number, ids in groups.members():
            keep[ids] = lowest(first[ids], int(budget[number]))
        return keep

    def _without_duplicates(self, features: np.ndarray, total: int) -> np.ndarray:
        """int64 [n]: ids that are no duplicates. Raises ValueError if fewer than ``total`` are left."""
        if self.duplicate_above is None:
            return np.arange(len(features))
        groups = cluster(
            features, max(1, round(len(features) / 1000)), self.iterations, int(self.rng(0, 2).integers(1 << 31))
        )
        left = np.flatnonzero(redundancy(features, groups, groups.similarity) <= self.duplicate_above)
        if len(left) < total:
            raise ValueError(
                f"duplicate_above {self.duplicate_above} leaves {len(left)} samples, not the {total} to keep:"
                " raise it, or lower keep_fraction"
            )
        return left


def complexity(groups: Clusters) -> np.ndarray:
    """float64 [K]: mean distance to the own centroid times mean distance of that to its 20 nearest others."""
    total = len(groups.centroids)
    within = np.bincount(groups.of_sample, weights=1 - groups.similarity.astype(np.float64)) / groups.sizes
    if total == 1:
        return within
    between = np.empty(total)
    for start in range(0, total, 1024):
        distances = 1 - groups.centroids[start : start + 1024].astype(np.float64) @ groups.centroids.T
        distances[np.arange(len(distances)), np.arange(start, start + len(distances))] = np.inf
        near = min(NEIGHBOURS, total - 1)
        between[start : start + 1024] = np.partition(distances, near - 1, axis=1)[:, :near].mean(axis=1)
    return within * between


def shares(values: np.ndarray, sizes: np.ndarray, count: int, temperature: float, balance: float) -> np.ndarray:
    """int64 [K]: samples that each cluster keeps, ``count`` in all.

    The nearest point to ``count * softmax(values / temperature)`` between a least share and the cluster's size:
    the published quadratic programme, whose solution shifts all wishes by one number and clips them.
    """
    powers = np.exp((values - values.max()) / temperature)
    wish = count * powers / powers.sum()
    least = np.minimum(np.floor(count / len(sizes) * balance), np.maximum(sizes - 1, 0))
    if least.sum() > count:  # many tiny clusters: the least shares alone would be too many
        least = np.zeros_like(least)
    low, high = float((wish - sizes).min()), float(wish.max())
    for _ in range(200):
        shift = (low + high) / 2
        low, high = (shift, high) if np.clip(wish - shift, least, sizes).sum() > count else (low, shift)
    exact = np.clip(wish - high, least, sizes)
    return rounded(exact, sizes, count)


def rounded(exact: np.ndarray, most: np.ndarray, count: int) -> np.ndarray:
    """int64 [K] of the sum ``count``: whole parts, then one more for the largest remainders, at most ``most``."""
    whole = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - whole), kind="stable")
    while (rest := count - int(whole.sum())) > 0:
        room = order[whole[order] < most[order]][:rest]
        whole[room] += 1
    for cluster_id in order[::-1]:  # rounding up by the tolerance can give one too many
        if whole.sum() <= count:
            break
        whole[cluster_id] -= whole[cluster_id] > 0
    return whole
