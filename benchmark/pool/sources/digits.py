"""The embedded pool of images alone: scikit-learn's 1,797 handwritten digits of 8x8 pixels, for MoCo.

A fixed stratified fifth is the test split; the training pool is the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from benchmark.options import require
from benchmark.pool.samples import Pool, PoolError, Sample
from benchmark.pool.source import SPLITS, LabelledSet, Source
from benchmark.seeds import generator

VERSION = 1
"""Goes up with anything that changes a pixel or the split; it is part of the fingerprint."""

TEST_SHARE = 0.2
CLASS_NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_PROMPTS = (
    "the number {}",
    "the digit {}",
    "a handwritten {}",
    "a photo of the number {}",
    "a picture of the handwritten digit {}",
)


@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """Handwritten digits in grey, as RGB."""

    image_size: int = 32
    """Side the 8x8 images are enlarged to (bicubic), so that crops and small models have pixels to work on."""

    def __post_init__(self) -> None:
        require(8 <= self.image_size <= 512, "image_size", "in [8, 512]", self.image_size)

    @property
    def label(self) -> str:
        return "digits" if self.image_size == Digits().image_size else f"digits-{self.image_size}px"

    def expected_samples(self) -> int:
        return len(_split("train"))

    def training_pool(self) -> DigitsPool:
        return DigitsPool(self.image_size)

    def licence(self) -> str:
        return (
            "Optical Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak, 1998), of the UCI Machine"
            " Learning Repository, under CC BY 4.0."
        )

    def labelled(self, split: str) -> LabelledSet:
        if split not in SPLITS:
            raise PoolError(f"{self.label} has no split '{split}' (known: {', '.join(SPLITS)})")
        pixels, labels = _digits()
        rows = _split(split)
        images = [_enlarged(pixels[row], self.image_size) for row in rows]
        return LabelledSet(self.label, split, images, labels[rows], list(CLASS_NAMES), _prompts())


class DigitsPool(Pool):
    """The train split, without labels."""

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self.rows = _split("train")
        self.pixels = _digits()[0][self.rows]  # uint8 [N, 8, 8]
        self.num_samples = len(self.rows)
        content = hashlib.sha256(f"digits {VERSION} {image_size}".encode())
        content.update(self.pixels.tobytes())
        self.fingerprint = content.hexdigest()[:16]

    @property
    def sample_classes(self) -> tuple[Sequence[str], np.ndarray]:
        return CLASS_NAMES, _digits()[1][self.rows]

    def key(self, sample_id: int) -> str:
        """The row in scikit-learn's data."""
        return f"digits-{self.rows[sample_id]:04d}"

    def read(self, sample_id: int) -> Sample:
        if not 0 <= sample_id < self.num_samples:
            raise PoolError(f"digits has samples 0 to {self.num_samples - 1}, not {sample_id}")
        return Sample(_enlarged(self.pixels[sample_id], self.image_size), "")


@lru_cache(maxsize=1)
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [1797, 8, 8] and labels int64 [1797]."""
    levels, labels = load_digits(return_X_y=True)  # levels 0 to 16
    pixels = np.minimum(levels * 16, 255).astype(np.uint8)
    return pixels.reshape(-1, 8, 8), labels.astype(np.int64)


def _split(split: str) -> np.ndarray:
    """Rows of a split in rising order, int64: of each class a fifth is ``test``."""
    labels = _digits()[1]
    # raw output of the bit generator: NumPy keeps it the same in all versions
    raw = generator(0, "digits split").bit_generator.random_raw(len(labels))
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(len(CLASS_NAMES)):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(raw[rows], kind="stable")]
        is_test[rows[: round(TEST_SHARE * len(rows))]] = True
    return np.flatnonzero(is_test if split == "test" else ~is_test)


def _enlarged(pixels: np.ndarray, image_size: int) -> Image.Image:
    image = Image.fromarray(pixels).convert("RGB")
    return image.resize((image_size, image_size), Image.Resampling.BICUBIC)


def _prompts() -> list[Callable[[str], str]]:
    return [partial(str.format, prompt) for prompt in _PROMPTS]
