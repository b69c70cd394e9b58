"""CLIP score, DataComp's baseline (arXiv 2304.14108): pairs whose image and caption agree most are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from baselines._vectors import check_fraction, cosines, lowest
from benchmark.pruner import PoolView, StaticPruner


@dataclass
class ClipScore(StaticPruner):
    keep_fraction: float
    """Share of the pool to keep, in (0, 1]. Published: 0.3, of a raw web crawl."""

    needs: ClassVar = ("image_embedding", "text_embedding")

    def __post_init__(self) -> None:
        check_fraction(self.keep_fraction)

    def select(self, pool: PoolView) -> np.ndarray:
        score = cosines(pool.features["image_embedding"], pool.features["text_embedding"])
        # DEVIATION(clip_score): ties at the threshold go by position; DataComp keeps all of them
        return lowest(-score, round(self.keep_fraction * pool.num_samples))
