"""negCLIPLoss and NormSim (arXiv 2405.19547): a CLIP score less what a pair's parts score with other pairs.

A pair's score is its cosine less half the temperature times the log-sums of its image with all texts and of its
text with all images of a random batch: low for captions that fit anything. NormSim can choose among the best by
likeness to a target set. Steps and defaults follow the authors' code (ypwang61/negCLIPLoss_NormSim).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from baselines import _cost, _gpu
from baselines._norm_sim import DECIMALS, largest, quadratic, second_moment, shrink
from baselines._vectors import check_fraction, cosines, lowest, unit_rows
from benchmark.options import check_option, require
from benchmark.pruner import PoolView, StaticPruner

TILE = 4096
"""Images and texts multiplied at once: 64 MB. Smaller products leave threads waiting for each other: 1,024 took
1.6 to 2.5 times as long on two busy cores."""
SPREAD = 140.0
"""Logits of a tile up to this far apart are summed as float32 about their middle: exp(70) * 4096 is in range."""


@dataclass
class NegClipLoss(StaticPruner):
    keep_fraction: float
    """Share of the pool to keep, in (0, 1]."""
    batch_size: int = 32768
    """Pairs that are compared, at most the whole pool (published)."""
    temperature: float = 0.01
    """Of the logits: 0.01 for OpenAI's CLIP (published; 0.07 with a DFN encoder)."""
    partitions: int = 10
    """Random partitions into batches that a score is the mean of (released scripts; from 5 it changes little)."""
    norm_sim: str = "none"
    """``none``; ``inf`` and ``2``, nearness to the ``target`` of ``features``, by the largest absolute cosine or
    by the mean square over all; ``self``, to the pool itself, NormSim-D."""
    loss_fraction: float | None = None
    """Share of the pool that negCLIPLoss leaves for NormSim to choose from, in [keep_fraction, 1]. None means
    ``keep_fraction ** 0.75``: 0.3 at 0.2, as published."""
    steps: int = 100
    """Of NormSim-D (default of the released code; its scripts have up to 500)."""

    def __post_init__(self) -> None:
        check_fraction(self.keep_fraction)
        check_option("norm_sim", self.norm_sim, ("none", "inf", "2", "self"))
        require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        require(self.temperature > 0, "temperature", "above 0", self.temperature)
        require(self.partitions >= 1, "partitions", "at least 1", self.partitions)
        require(self.steps >= 1, "steps", "at least 1", self.steps)
        share = self.loss_fraction
        if share is not None:
            require(self.norm_sim != "none", "loss_fraction", "left out without norm_sim", share)
            require(self.keep_fraction <= share <= 1, "loss_fraction", "in [keep_fraction, 1]", share)

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        pairs = ("image_embedding", "text_embedding")
        return (*pairs, "target_embedding") if self.norm_sim in ("inf", "2") else pairs

    @property
    def revision(self) -> int | None:  # type: ignore[override]
        return 2 if self.norm_sim == "inf" else None  # once it went by the largest cosine, whatever its sign

    def select(self, pool: PoolView) -> np.ndarray:
        features, total = pool.features["image_embedding"], pool.num_samples
        targets = len(pool.features["target_embedding"]) if "target_embedding" in self.needs else 0
        _cost.announce("neg_clip_loss", self.multiply_adds(total, features.shape[1], targets))
        count, score = round(self.keep_fraction * total), self.scores(features, pool.features["text_embedding"])
        if self.norm_sim == "none":
            return lowest(-score, count)
        left = np.flatnonzero(lowest(-score, max(count, round(self._share * total))))
        keep = np.zeros(total, dtype=bool)
        if self.norm_sim == "self":
            keep[shrink(features, left, count, self.steps)] = True
            return keep
        target = pool.features["target_embedding"]
        if self.norm_sim == "inf":
            nearness = largest(features, left, target)
        else:
            nearness = quadratic(features, left, second_moment(target, what="target"), len(target))
        keep[left] = lowest(-nearness, count)
        return keep

    @property
    def _share(self) -> float:
        # DEVIATION(neg_clip_loss): published for one pair of shares, 0.3 then 0.2; the first follows the second
        return self.keep_fraction**0.75 if self.loss_fraction is None else self.loss_fraction

    def multiply_adds(self, total: int, width: int, targets: int = 0) -> float:
        """Of a pool of ``total`` pairs and ``targets`` images of the target set."""
        batches = math.ceil(total / self.batch_size)
        found = float(total) * total / max(batches, 1) * width * (self.partitions if batches > 1 else 1)
        left = self._share * total
        second = {
            "none": 0.0,
            "inf": 2 * left * targets * width,  # towards a target and away from it
            "2": (left + targets) * width**2,
            "self": (2 * left + self.steps * (left + self.keep_fraction * total) / 2) * width**2,
        }
        return found + second[self.norm_sim]

    def scores(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """[N, d] twice -> float64 [N]: negCLIPLoss, the highest for the best pairs."""
        total = len(images)
        batches = math.ceil(total / self.batch_size)
        rounds = self.partitions if batches > 1 else 1  # one batch of all is the same every time
        crowd = np.zeros(total)
        for number in range(rounds):
            order = self.rng(0, number).permutation(total)
            # DEVIATION(neg_clip_loss): batches of equal size from the whole pool; the released code draws them
            # within a shard and leaves a small last one, whose log-sums are lower
            parts = map(np.sort, np.array_split(order, max(batches, 1)))
            for ids in _cost.steps(f"partition {number + 1} of {rounds}, batches", parts, batches):
                by_image, by_text = log_sums(unit_rows(images, ids), unit_rows(texts, ids), self.temperature)
                crowd[ids] += by_image + by_text
        return np.round(cosines(images, texts) - 0.5 * self.temperature * crowd / rounds, DECIMALS)


def log_sums(images: np.ndarray, texts: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """float32 [b, d] twice -> float64 [b] twice: log of the sum of exp(cosine / temperature) of an image with all
    texts, and of a text with all images; its own pair counts in both.
    """
    device = _gpu.device()
    if device is not None:
        return _gpu.log_sums(images, texts, temperature, device)
    by_image, by_text = np.full((2, len(images)), -np.inf)
    scaled = images / np.float32(temperature)
    for rows in (slice(i, i + TILE) for i in range(0, len(images), TILE)):
        for columns in (slice(j, j + TILE) for j in range(0, len(texts), TILE)):
            logits = scaled[rows] @ texts[columns].T
            for total, part, sums in zip((by_image, by_text), (rows, columns), _tile_sums(logits), strict=True):
                total[part] = np.logaddexp(total[part], sums)
    return by_image, by_text


def _tile_sums(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n, m] -> float64 [n] and [m]: log-sums of rows and of columns. Overwrites ``logits``."""
    low, high = logits.min(), logits.max()
    if high - low <= SPREAD:  # one exp serves both directions
        middle = (low + high) / 2
        logits -= middle
        np.exp(logits, out=logits)
        by_row, by_column = (np.log(logits.sum(axis=axis)).astype(np.float64) for axis in (1, 0))
        return by_row + middle, by_column + middle
    tops = [logits.max(axis=axis, keepdims=True) for axis in (1, 0)]
    by_row, by_column = (
        top.ravel() + np.log(np.exp(logits - top).sum(axis=axis, dtype=np.float64))
        for top, axis in zip(tops, (1, 0), strict=True)
    )
    return by_row, by_column
