"""Features that are checked, and cosines whose ties do not hang on rounding.

Letters: q queries, m candidates, d feature width, b queries in a block.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NewType

import numpy as np
from PIL import Image

from benchmark.evaluate.cache import is_unreadable
from benchmark.models.encoder import Encoder
from benchmark.pool.samples import PoolError, SampleError
from benchmark.pool.source import TestSet, TrainSet

TrainFeatures = NewType("TrainFeatures", np.ndarray)
"""Features that may be fitted on: whatever fits asks for this type, and only a ``TrainSet`` has such features."""
TestFeatures = NewType("TestFeatures", np.ndarray)
"""Features that are measured on."""

DECIMALS = 6
"""Cosines are rounded to this many decimals: what differs by the rounding of float32 alone is a tie."""
MOST_UNREADABLE = 0.01
"""Share of a set's images that may be left out because they cannot be decoded."""
BLOCK_ELEMENTS = 1 << 22
"""Most similarities held at once."""


def image_features(
    encoder: Encoder, images: Sequence[Image.Image], where: str, layer: str = "joint"
) -> tuple[np.ndarray, np.ndarray]:
    """Which images can be decoded, bool [n], and the features of these, float32 [m, d].

    Raises ValueError, opening with ``where``, for a feature that is not finite, and PoolError if more than
    ``MOST_UNREADABLE`` of the images cannot be decoded.
    """
    features = encoder.encode_images(images, layer=layer)
    is_readable = ~is_unreadable(features)
    check_readable(images, np.flatnonzero(~is_readable).tolist(), where)
    if not is_readable.all():
        features = features[is_readable]
    return is_readable, _checked(features, int(is_readable.sum()), "image", where)


def check_readable(images: Sequence[Image.Image], unreadable: Collection[int], where: str) -> None:
    """Raise PoolError, naming one, if more than ``MOST_UNREADABLE`` of the images cannot be decoded."""
    if len(unreadable) <= MOST_UNREADABLE * len(images):
        return
    told = ""
    try:
        images[min(unreadable)]
    except SampleError as error:
        told = f", the first {error}"
    raise PoolError(
        f"{where}: {len(unreadable)} of {len(images)} images cannot be decoded, more than"
        f" {MOST_UNREADABLE:.0%}{told}; the log names all"
    )


def train_features(
    encoder: Encoder, split: TrainSet, where: str, layer: str = "joint"
) -> tuple[TrainSet, TrainFeatures]:
    """As ``image_features``, of the split that may be fitted on: what of it can be decoded, and its features."""
    assert isinstance(split, TrainSet), f"{where}: only a train split can be fitted on"
    is_readable, found = image_features(encoder, split.images, where, layer)
    return split.only(is_readable), TrainFeatures(found)


def test_features(
    encoder: Encoder,
    split: TestSet,
    where: str,
    layer: str = "joint",  # noqa: PT028  (no test)
) -> tuple[TestSet, TestFeatures]:
    """As ``image_features``, of the split that is measured on."""
    assert isinstance(split, TestSet), f"{where}: only a test split is measured on"
    is_readable, found = image_features(encoder, split.images, where, layer)
    return split.only(is_readable), TestFeatures(found)


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
