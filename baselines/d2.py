"""D2 pruning (arXiv 2310.07931): difficulty and diversity by messages on a graph of nearest neighbours.

A sample's score takes in those of its neighbours; then the highest is chosen again and again, and each choice
lowers its neighbours' scores. Steps and defaults follow the authors' code for DataComp (adymaharana/d2pruning),
which chooses otherwise than the paper: see ``variant``.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import numpy as np

from baselines import _clusters, _cost, _neighbours
from baselines._clusters import cluster
from baselines._neighbours import nearest
from baselines._vectors import Joined, check_fraction, cosines
from benchmark.options import check_option, later_option, require
from benchmark.pruner import PoolView, StaticPruner

LEAST = 1e-7
"""Of a sample's own score (published)."""


@dataclass
class D2(StaticPruner):
    keep_fraction: float
    """Share of the pool to keep, in (0, 1]. Published: 0.3, of a raw web crawl."""
    variant: str = field(default="official", metadata=later_option(before="greedy"))
    """``official`` walks the order of the graph's scores as the released code does, and keeps little but its top;
    ``greedy`` is the paper's choice, the highest of the scores as they then are, one sample at a time."""
    score: str = "clip"
    """A sample's own score: ``clip``, the cosine of image and caption (published); ``prototypes``, the distance
    from the nearest of ``clusters`` centroids, for pools without captions."""
    graph: str | None = None
    """Embeddings that make neighbours: ``both`` side by side (published), ``image`` or ``text``. None means
    ``both`` with ``score: clip``, ``image`` with ``prototypes``."""
    neighbours: int = 1
    """k: 1 for DataComp (published); 5 and 10 in the authors' runs on labelled images."""
    gamma_forward: float = 1.0
    """How fast the weight of a neighbour's score falls with its squared distance (published)."""
    gamma_reverse: float = 1.0
    """The same of what a choice takes from its neighbours (published for DataComp)."""
    offset: float = 0.115
    """Added to cosines, so that few are negative (released code, for ViT-L/14)."""
    clusters: int | None = None
    """Of ``score: prototypes``; None means 1,000, or one for 20 samples."""
    iterations: int = 100
    """Of the k-means of ``score: prototypes``."""
    exact_below: int = 50_000
    """Pools smaller than this have exact neighbours; larger ones are searched in ``cells``."""
    cells: int | None = None
    """Cells of k-means in a large pool; None means twice the root of its size."""
    probes: int = 8
    """Cells that are searched, the own one among them."""

    def __post_init__(self) -> None:
        check_fraction(self.keep_fraction)
        check_option("variant", self.variant, ("official", "greedy"))
        check_option("score", self.score, ("clip", "prototypes"))
        if self.graph is not None:
            check_option("graph", self.graph, ("both", "image", "text"))
        for name in ("neighbours", "probes", "iterations"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("clusters", "cells"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, "at least 1", value)
        for name in ("gamma_forward", "gamma_reverse"):
            require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        has_text = self.score == "clip" or self._graph != "image"
        return ("image_embedding", "text_embedding") if has_text else ("image_embedding",)

    @property
    def _graph(self) -> str:
        return self.graph or ("both" if self.score == "clip" else "image")

    def select(self, pool: PoolView) -> np.ndarray:
        _cost.announce("d2", self.multiply_adds(*pool.features["image_embedding"].shape))
        own = np.maximum(self._own(pool), LEAST)  # [N]
        k = min(self.neighbours, pool.num_samples - 1)
        # DEVIATION(d2): exact distances, to all samples or to those of the nearest cells; published are estimates
        # of a product quantizer (IVF-PQ)
        seed = int(self.rng(0, 1).integers(1 << 31))
        ids, distances = nearest(
            self._features(pool), k, self.exact_below, self.cells, self.probes, seed
        )  # [N, k] twice
        score = own + (weights(distances, self.gamma_forward) * own[ids]).sum(axis=1)
        taken = weights(distances, self.gamma_reverse)
        keep = np.zeros(pool.num_samples, dtype=bool)
        keep[choose(score, ids, taken, round(self.keep_fraction * pool.num_samples), self.variant)] = True
        return keep

    def multiply_adds(self, total: int, width: int) -> float:
        """Of a pool of ``total`` samples: the search; the choice multiplies nothing large."""
        both = width * (2 if self._graph == "both" else 1)
        search = _neighbours.multiply_adds(total, both, self.exact_below, self.cells, self.probes)
        if self.score == "clip":
            return search
        return search + _clusters.multiply_adds(total, width, self._count(total), self.iterations)

    def _count(self, total: int) -> int:
        return self.clusters or min(1000, max(1, total // 20))

    def _own(self, pool: PoolView) -> np.ndarray:
        """float64 [N]: every sample's score before it hears of others."""
        images = pool.features["image_embedding"]
        if self.score == "clip":
            return cosines(images, pool.features["text_embedding"]).astype(np.float64) + self.offset
        groups = cluster(
            images, self._count(pool.num_samples), self.iterations, int(self.rng(0).integers(1 << 31))
        )
        return 1 - groups.similarity.astype(np.float64)

    def _features(self, pool: PoolView) -> Joined:
        names = ("image", "text") if self._graph == "both" else (self._graph,)
        return Joined(*(pool.features[f"{name}_embedding"] for name in names))


def weights(distances: np.ndarray, gamma: float) -> np.ndarray:
    """float [N, k] -> float64 [N, k]: exp(-gamma * distance); 0 where no neighbour was found."""
    is_there = np.isfinite(distances)
    return np.where(is_there, np.exp(-gamma * np.where(is_there, distances, 0).astype(np.float64)), 0)


def choose(score: np.ndarray, ids: np.ndarray, taken: np.ndarray, count: int, variant: str) -> list[int]:
    """``count`` ids in the order of choice; each choice lowers the scores of its neighbours.

    ``score`` float64 [N]; ``ids`` int64 and ``taken`` float64 [N, k]: the share of its score that a chosen sample
    takes from whom. ``greedy`` chooses the highest score of all. ``official`` walks down the order of the first
    scores: where the next in it now is higher, a sample is postponed, to be chosen once it is no lower than the
    walk's next. Of equals the first in the pool goes first, of postponed ones that of the higher first score.
    """
    k, now, total = ids.shape[1], score.tolist(), len(score)
    neighbours, shares = ids.ravel().tolist(), taken.ravel().tolist()
    is_walk = variant == "official"
    order = np.argsort(-score, kind="stable").tolist() if is_walk else list(range(total))
    place_of = np.argsort(order).tolist()
    place = 0 if is_walk else total  # of the walk in the order; what greedy chooses from is postponed, all of it
    # a heap holds for every postponed sample an entry that is at least its score; one found too high on top goes
    # back with the score of now. So a choice costs O(k log N); finding the maximum anew would cost O(N)
    heap = [] if is_walk else [(-value, sample) for sample, value in enumerate(now)]
    heapq.heapify(heap)
    is_waiting = bytearray([not is_walk]) * total
    chosen: list[int] = []
    while len(chosen) < count:
        front = now[order[place]] if place < total else -math.inf
        if heap and -heap[0][0] >= front:
            value, at = heapq.heappop(heap)
            sample = order[at]
            if not is_waiting[sample]:
                continue
            if now[sample] != -value:
                heapq.heappush(heap, (-now[sample], at))
                continue
        else:
            sample = order[place]
            place += 1
            if place < total and front < now[order[place]]:
                is_waiting[sample] = True
                heapq.heappush(heap, (-front, place - 1))
                continue
        is_waiting[sample] = False
        chosen.append(sample)
        mine = now[sample]
        for near in range(sample * k, sample * k + k):
            other, less = neighbours[near], shares[near] * mine
            if less:
                now[other] -= less
                if less < 0 and is_waiting[other]:  # of a negative score: the neighbour's rises above its entry
                    heapq.heappush(heap, (-now[other], place_of[other]))
    return chosen
