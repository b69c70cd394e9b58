"""Encoders and data sets that tests of the tasks are run on: features are chosen by hand."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from benchmark.pool.samples import Pool
from benchmark.pool.source import LabelledSet, PairSet, Source
from benchmark.pool.sources.digits import Digits


def image_of(index: int) -> Image.Image:
    """An image that carries a number, for ``TableEncoder``."""
    return Image.new("RGB", (1, 1), (index // 256, index % 256, 0))


@dataclass
class TableEncoder:
    """Looks features up: images by the number they carry, texts by themselves."""

    images: np.ndarray
    texts: dict[str, Sequence[float]] = field(default_factory=dict)
    has_text: bool = True
    logit_scale: float | None = None
    images_seen: list[int] = field(default_factory=list)

    def encode_images(self, images: Sequence[Image.Image], layer: str = "joint") -> np.ndarray:
        pixels = [image.getpixel((0, 0)) for image in images]
        rows = [p[0] * 256 + p[1] for p in pixels]  # type: ignore[index]
        self.images_seen += rows
        return np.asarray(self.images, dtype=np.float32)[rows]

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([self.texts[text] for text in texts], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class FixedSource(Source):
    """Data sets given by hand; images are numbered from 0, those of ``test`` after those of ``train``."""

    train_labels: Sequence[int] = ()
    test_labels: Sequence[int] = ()
    class_names: Sequence[str] = ()
    captions: Sequence[str] = ()
    image_of_caption: Sequence[int] = ()
    num_images: int = 0
    image_group: Sequence[int] | None = None

    @property
    def label(self) -> str:
        return "toy"

    def expected_samples(self) -> int:
        return 0

    def training_pool(self) -> Pool:
        raise AssertionError("tasks do not open the training pool")

    def labelled(self, split: str) -> LabelledSet:
        first = 0 if split == "train" else len(self.train_labels)
        labels = np.array(self.train_labels if split == "train" else self.test_labels, dtype=np.int64)
        images = [image_of(first + i) for i in range(len(labels))]
        return LabelledSet("toy", split, images, labels, list(self.class_names), [str, "photo of {}".format])

    def pairs(self) -> PairSet:
        images = [image_of(i) for i in range(self.num_images)]
        group = None if self.image_group is None else np.array(self.image_group, dtype=np.int64)
        return PairSet("toy", images, list(self.captions), np.array(self.image_of_caption, dtype=np.int64), group)


@dataclass(frozen=True, kw_only=True)
class FewDigits(FixedSource):
    """The first digits of each split, as images a tiny network can read."""

    num_train: int = 300
    num_test: int = 150

    def labelled(self, split: str) -> LabelledSet:
        whole = Digits(image_size=16).labelled(split)
        count = self.num_train if split == "train" else self.num_test
        return replace(whole, images=whole.images[:count], labels=whole.labels[:count])
