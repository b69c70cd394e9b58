"""SAS (arXiv 2302.09195), for self-supervision on images: samples most like the others of their latent class.

Within each class samples are ordered by their cosines with the rest of it, and each class keeps the same share.
The paper's objective and its released code (sas-pip) differ: see ``variant``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from baselines import _clusters, _cost, _gpu
from baselines._clusters import DECIMALS, cluster
from baselines._vectors import check_fraction, lowest, unit_rows
from baselines.density import rounded
from benchmark.options import check_option, require
from benchmark.pruner import PoolView, StaticPruner

WHOLE = 1 << 13
"""Members up to which a class's cosines are held as one matrix (256 MB); a larger class has them made anew."""
ALONE = 6
"""Times as long a row takes that is multiplied alone, from memory, as one of a block (perf/README.md)."""
ROWS = 1 << 10
"""Of a larger class's matrix that are made at once."""


@dataclass
class Sas(StaticPruner):
    keep_fraction: float
    """Share of the pool, and of every class, to keep, in (0, 1]."""
    variant: str = "official"
    """``official`` orders a class by row sums, which is what the released code comes to; ``greedy`` maximises the
    paper's objective, the similarity of what is kept to what is not, one sample at a time."""
    classes: int | None = None
    """Latent classes by k-means; None means one for 500 samples, as CIFAR-100 has them, and at most 1,000.
    Published: as many as the data has classes."""
    iterations: int = 100
    """Of k-means."""
    threshold: float = 0.0
    """Cosines below this count as 0 (published)."""

    needs: ClassVar = ("image_embedding",)

    def __post_init__(self) -> None:
        check_fraction(self.keep_fraction)
        check_option("variant", self.variant, ("official", "greedy"))
        require(self.classes is None or self.classes >= 1, "classes", "at least 1", self.classes)
        require(self.iterations >= 1, "iterations", "at least 1", self.iterations)
        require(-1 <= self.threshold <= 1, "threshold", "in [-1, 1]", self.threshold)

    def select(self, pool: PoolView) -> np.ndarray:
        total, features = pool.num_samples, pool.features["image_embedding"]
        _cost.announce("sas", self.multiply_adds(*features.shape))
        # DEVIATION(sas): classes are clusters; the authors' come from CLIP, zero-shot or with 1 % of the labels
        groups = cluster(features, self._count(total), self.iterations, int(self.rng(0).integers(1 << 31)))
        # DEVIATION(sas): remainders go to the classes with the largest, to meet the budget; published: floor
        exact = self.keep_fraction * groups.sizes
        budget = rounded(exact, groups.sizes, round(self.keep_fraction * total))
        choose = {"official": by_row_sum, "greedy": greedily}[self.variant]
        keep = np.zeros(total, dtype=bool)
        for number, ids in _cost.steps("classes", groups.members(), len(groups.centroids)):
            chosen = choose(Similarity(unit_rows(features, ids), self.threshold), int(budget[number]))
            keep[ids[chosen]] = True
        return keep

    def multiply_adds(self, total: int, width: int) -> float:
        """Of a pool of ``total`` samples, in classes of equal size; greedy makes each choice's row of a large one
        anew, which counts for the time it takes."""
        count = self._count(total)
        pairs = total**2 / count * width
        again = ALONE * self.keep_fraction if self.variant == "greedy" and total / count > WHOLE else 0.0
        return _clusters.multiply_adds(total, width, count, self.iterations) + pairs * (1 + again)

    def _count(self, total: int) -> int:
        return self.classes or min(1000, max(1, total // 500))


class Similarity:
    """Cosines of a class's n members, those below a threshold as 0, and of each with itself as 0."""

    def __init__(self, rows: np.ndarray, threshold: float) -> None:
        self.rows, self.threshold = rows, threshold

    @cached_property
    def whole(self) -> np.ndarray | None:
        """float32 [n, n], of a class that is small enough."""
        return self._part(slice(0, len(self.rows))) if len(self.rows) <= WHOLE else None

    def _part(self, here: slice) -> np.ndarray:
        """float32 [rows of ``here``, n]"""
        found = self.rows[here] @ self.rows.T
        found[found < self.threshold] = 0
        found[np.arange(len(found)), np.arange(here.start, here.start + len(found))] = 0
        return found

    def sums(self) -> np.ndarray:
        """float64 [n]: of each row."""
        device = _gpu.device()
        if device is not None:
            return _gpu.row_sums(self.rows, self.threshold, device).astype(np.float64)
        if self.whole is not None:
            return self.whole.sum(axis=1, dtype=np.float64)
        starts = range(0, len(self.rows), ROWS)
        parts = (self._part(slice(start, start + ROWS)) for start in starts)
        return np.concatenate([part.sum(axis=1, dtype=np.float64) for part in parts])

    def row(self, position: int) -> np.ndarray:
        """float32 [n]: with one member."""
        return self._part(slice(position, position + 1))[0] if self.whole is None else self.whole[position]


def by_row_sum(similarity: Similarity, count: int) -> np.ndarray:
    """bool [n]: the ``count`` members with the largest sums, ties by position."""
    return lowest(-np.round(similarity.sums(), DECIMALS), count)


def greedily(similarity: Similarity, count: int) -> np.ndarray:
    """bool [n]: members in the order of their gain, the sum of their cosines less twice those with the chosen.

    What differs by rounding alone is a tie, and goes by position. A choice costs O(n).
    """
    device = _gpu.device()
    if device is not None:
        return _gpu.greedily(similarity.rows, similarity.threshold, count, DECIMALS, device)
    gain = similarity.sums()
    chosen = np.zeros(len(gain), dtype=bool)
    for _ in range(count):
        best = int(np.argmax(np.round(gain, DECIMALS)))
        chosen[best] = True
        gain -= 2 * similarity.row(best)
        gain[best] = -np.inf
    return chosen
