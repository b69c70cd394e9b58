"""ImageNet-1k, or classes of it, in folders: ``train/<wnid>/*.JPEG`` and ``val/<wnid>/*.JPEG``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmark.options import LATER_OPTION, NOT_IDENTITY, require
from benchmark.pool.samples import PoolError
from benchmark.pool.source import SPLITS, LabelledSet, Source, data_folder, draft_label
from benchmark.pool.sources import _published as published
from benchmark.pool.storage.imagefolder import FolderPool, list_classes

logger = logging.getLogger(__name__)

FOLDERS = {"train": "train", "test": "val"}


@dataclass(frozen=True, kw_only=True)
class ImageNet(Source):
    """The training images without labels as a pool; both splits with labels for k-NN, probes and zero-shot."""

    published_counts: ClassVar[Mapping[str, int]] = {"train": 1_281_167, "test": 50_000}
    """Images of each split; what is evaluated under the name ``imagenet`` has them, and the 1,000 classes."""

    root: str = field(default="", metadata=NOT_IDENTITY)
    """The folder that holds ``train`` and ``val``; "" is ``$SCAN_BENCH_DATA/imagenet``."""
    name: str = "imagenet"
    """Label in run names and tables: another one for a part of the classes or images, such as ``imagenet100``."""
    num_samples: int = field(default=1_281_167, metadata=NOT_IDENTITY)
    """Training images that plans count on before the data is read."""
    decode_size: int | None = field(default=None, metadata=LATER_OPTION, compare=False)  # it is the same data
    """Training images that are JPEGs are decoded at 1/2, 1/4 or 1/8 if no side falls below so many pixels; None
    decodes them whole."""

    def __post_init__(self) -> None:
        require(self.decode_size is None or self.decode_size >= 1, "decode_size", "at least 1", self.decode_size)

    @property
    def label(self) -> str:
        return draft_label(self.name, self.decode_size)

    def expected_samples(self) -> int:
        return self.num_samples

    def training_pool(self) -> FolderPool:
        pool = self._open("train", self.decode_size)
        if pool.num_samples != self.num_samples:
            logger.warning("%s holds %d training images, not %d", pool.folder, pool.num_samples, self.num_samples)
        return pool

    def labelled(self, split: str) -> LabelledSet:
        """``test`` is ``val``. Classes are those that have a folder, in the order of their wnids."""
        if split not in SPLITS:
            raise PoolError(f"{self.label} has no split '{split}' (known: {', '.join(SPLITS)})")
        pool = self._open(split)
        train = pool.folder.parent / FOLDERS["train"]
        if split == "test" and train.is_dir() and list_classes(train) != pool.classes:
            raise PoolError(f"{self.name}: the class folders of {train} and {pool.folder} differ")
        names = _class_names(pool)
        if self.name == "imagenet":
            self._check_whole(pool, split)
        templates = published.templates(published.IMAGENET)
        labels = pool.labels().astype(np.int64)
        return LabelledSet(self.name, split, pool.images(), labels, names, templates, pool.classes)

    def _check_whole(self, pool: FolderPool, split: str) -> None:
        found = len(pool.classes), pool.num_samples
        expected = len(published.wnids()), self.published_counts[split]
        if found != expected:
            raise PoolError(
                f"{self.name}: {pool.folder} holds {found[1]:,} images of {found[0]:,} classes, ImageNet has"
                f" {expected[1]:,} of {expected[0]:,}: unpack it again, or give a part of it a name of its own:"
                " {imagenet: {name: imagenet-part}}"
            )

    def _open(self, split: str, decode_size: int | None = None) -> FolderPool:
        root = Path(data_folder(self.root, "imagenet"))
        try:
            return FolderPool.open(root / FOLDERS[split], decode_size)
        except PoolError as error:
            raise PoolError(
                f"{self.name}: {error} (expected {root}/{FOLDERS[split]}/<wnid>/*.JPEG: set root or"
                " SCAN_BENCH_DATA; docs/data.md says how to get ImageNet)"
            ) from error


def _class_names(pool: FolderPool) -> list[str]:
    unknown = sorted(set(pool.classes) - set(published.wnids()))
    if unknown:
        raise PoolError(f"{pool.folder} has a folder {unknown[0]}, which is no class of ImageNet-1k")
    return published.names_of_wnids(pool.classes)
