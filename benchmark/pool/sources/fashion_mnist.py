"""Fashion-MNIST: 70,000 grey pictures of clothes, without captions; for MoCo and for probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.options import LATER_OPTION, NOT_IDENTITY, require
from benchmark.pool.samples import Pool, PoolError, Sample
from benchmark.pool.source import SPLITS, LabelledSet, Source
from benchmark.pool.sources._prepared import Prepared, open_prepared, templates
from benchmark.pool.storage.imagefolder import LazyImages
from benchmark.seeds import generator

VERSION = 1
"""Goes up with anything that changes a sample or the split."""

EXPECTED = 60_000
CLASS_NAMES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


@dataclass(frozen=True, kw_only=True)
class FashionMnist(Source):
    """Pictures of 28 px in grey, as RGB."""

    root: str = field(default="", metadata=NOT_IDENTITY)
    """Folder that ``prepare`` filled; "" is the usual one."""
    train_limit: int | None = None
    """Most images of the labelled train split, drawn once and for all, the same share of each class."""
    pool_limit: int | None = field(default=None, metadata=LATER_OPTION)
    """Most images of the training pool, drawn in the same way: for sweeps that fit a laptop."""

    def __post_init__(self) -> None:
        for name in ("train_limit", "pool_limit"):
            limit = getattr(self, name)
            require(limit is None or limit >= 1, name, "at least 1", limit)

    @property
    def label(self) -> str:
        return "fashion_mnist" if self.pool_limit is None else f"fashion_mnist-{self.pool_limit}"

    def expected_samples(self) -> int:
        return EXPECTED if self.pool_limit is None else min(self.pool_limit, EXPECTED)

    def training_pool(self) -> FashionMnistPool:
        """The 60,000 images of the train split, or ``pool_limit`` of them."""
        return FashionMnistPool.open(self._open(), "train", self.pool_limit)

    def licence(self) -> str:
        return self._open().licence

    def labelled(self, split: str) -> LabelledSet:
        """The data set's own train and test splits."""
        if split not in SPLITS:
            raise PoolError(f"{self.label} has no split '{split}' (known: {', '.join(SPLITS)})")
        prepared = self._open()
        pool = FashionMnistPool.open(prepared, split)
        labels = pool.sample_classes[1]
        ids = np.arange(len(labels))
        if split == "train" and self.train_limit is not None:
            ids = stratified(labels, self.train_limit)
        images = LazyImages(ids.tolist(), lambda i: pool.read(i).image, pool.fingerprint)
        name = "fashion_mnist" if self.train_limit is None else f"fashion_mnist-{self.train_limit}"
        prompts = templates("{}", "a photo of a {}")
        return LabelledSet(name, split, images, labels[ids], list(CLASS_NAMES), prompts)

    def _open(self) -> Prepared:
        return open_prepared("fashion_mnist", self.root, VERSION)


class FashionMnistPool(Pool):
    """One split without labels; all processes share the mapped pixels."""

    def __init__(
        self, path: Path, split: str, num_images: int, fingerprint: str, limit: int | None = None
    ) -> None:
        self.path, self.split, self.num_images, self.limit = path, split, num_images, limit
        self.num_samples = num_images if limit is None else min(limit, num_images)
        whole = self.num_samples == num_images
        self.fingerprint = fingerprint if whole else f"{fingerprint}-{self.num_samples}"
        self._given = fingerprint

    def __reduce__(self) -> tuple[object, ...]:
        return FashionMnistPool, (self.path, self.split, self.num_images, self._given, self.limit)

    @classmethod
    def open(cls, prepared: Prepared, split: str, limit: int | None = None) -> FashionMnistPool:
        """Raises PoolError if the pixels are not there."""
        part = prepared.manifest["parts"][split]
        path = prepared.folder / part["shards"][0]["file"]
        if not path.exists():
            raise PoolError(f"{path} is missing: run  python -m benchmark.pool prepare fashion_mnist again")
        return cls(path.absolute(), split, part["samples"], part["shards"][0]["sha256"][:16], limit)

    @cached_property
    def rows(self) -> np.ndarray:
        """Places in the split of the samples, int64 [N]."""
        return np.arange(self.num_images) if self.limit is None else stratified(self._labels(), self.limit)

    @cached_property
    def pixels(self) -> np.ndarray:
        """Of the whole split: uint8 [images, 28, 28]."""
        return np.load(self.path, mmap_mode="r")

    @property
    def sample_classes(self) -> tuple[Sequence[str], np.ndarray]:
        return CLASS_NAMES, self._labels()[self.rows]

    def _labels(self) -> np.ndarray:
        return np.load(self.path.parent / f"{self.split}-labels.npy").astype(np.int64)

    def key(self, sample_id: int) -> str:
        """Split and place in the data set."""
        return f"{self.split}-{self.rows[sample_id]:05d}"

    def read(self, sample_id: int) -> Sample:
        if not 0 <= sample_id < self.num_samples:
            raise PoolError(f"fashion_mnist has samples 0 to {self.num_samples - 1}, not {sample_id}")
        return Sample(Image.fromarray(np.asarray(self.pixels[self.rows[sample_id]])).convert("RGB"), "")


def stratified(labels: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` ids in rising order, int64: as many of each class as of any other, give or take one."""
    # raw output of the bit generator: NumPy keeps it the same in all versions
    raw = generator(0, "fashion_mnist train_limit").bit_generator.random_raw(len(labels))
    order = np.argsort(raw, kind="stable")
    place = np.empty(len(labels), dtype=np.int64)  # of an id among those of its class, in that order
    for label in np.unique(labels):
        ids = order[labels[order] == label]
        place[ids] = np.arange(len(ids))
    return np.sort(np.lexsort((raw, place))[:count])
