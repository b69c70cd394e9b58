"""Features that are checked, and cosines whose ties do not hang on rounding.

Letters: q queries, m candidates, d feature width, b queries in a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NewType

import numpy as np
from PIL import Image

from benchmark.models.encoder import Encoder
from benchmark.pool.source import TestSet, TrainSet

TrainFeatures = NewType("TrainFeatures", np.ndarray)
"""Features that may be fitted on: whatever fits asks for this type, and only a ``TrainSet`` has such features."""
TestFeatures = NewType("TestFeatures", np.ndarray)
"""Features that are measured on."""

DECIMALS = 6
"""Cosines are rounded to this many decimals: what differs by the rounding of float32 alone is a tie."""
BLOCK_ELEMENTS = 1 << 22
"""Most similarities held at once."""


def image_features(
    encoder: Encoder, images: Sequence[Image.Image], where: str, layer: str = "joint"
) -> np.ndarray:
    """float32 [n, d]. Raises ValueError, opening with ``where``, for a feature that is not finite."""
    return _checked(encoder.encode_images(images, layer=layer), len(images), "image", where)


def train_features(encoder: Encoder, split: TrainSet, where: str, layer: str = "joint") -> TrainFeatures:
    """As ``image_features``, of the split that may be fitted on."""
    assert isinstance(split, TrainSet), f"{where}: only a train split can be fitted on"
    return TrainFeatures(image_features(encoder, split.images, where, layer))


def test_features(
    encoder: Encoder,
    split: TestSet,
    where: str,
    layer: str = "joint",  # noqa: PT028  (no test)
) -> TestFeatures:
    """As ``image_features``, of the split that is measured on."""
    assert isinstance(split, TestSet), f"{where}: only a test split is measured on"
    return TestFeatures(image_features(encoder, split.images, where, layer))


test_features.__test__ = False  # type: ignore[attr-defined]  # pytest: no test


def text_features(encoder: Encoder, texts: Sequence[str], where: str) -> np.ndarray:
    """float32 [n, d]. Raises ValueError, opening with ``where``, for a feature that is not finite."""
    return _checked(encoder.encode_texts(texts), len(texts), "text", where)


def _checked(features: np.ndarray, count: int, kind: str, where: str) -> np.ndarray:
    assert features.ndim == 2, features.shape
    assert len(features) == count, (len(features), count)
    bad = int((~np.isfinite(features).all(axis=1)).sum())
    if bad:
        raise ValueError(
            f"{where}: {bad} of {count} {kind} features are not finite: the model has diverged;"
            " look at the loss in log.jsonl and train with a lower rate or with bf16 or fp32"
        )
    return features.astype(np.float32, copy=False)


def unit(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a row of zeros stays zero. float32 [n, d]."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(norms, 1e-12)).astype(np.float32, copy=False)
