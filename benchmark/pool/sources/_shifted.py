"""Test sets made of ImageNet's classes: folders of images that a model of ImageNet's classes is tried on.

Prompts are the 80 of ImageNet. The classes are those of the set alone: with 200 classes, top-1 is over these 200,
as clip_benchmark and the sets' authors count it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmark.options import NOT_IDENTITY
from benchmark.pool.samples import Pool, PoolError
from benchmark.pool.source import LabelledSet, Source, data_folder
from benchmark.pool.sources import _published as published
from benchmark.pool.storage.imagefolder import FolderPool, list_classes


@dataclass(frozen=True, kw_only=True)
class ShiftedImageNet(Source):
    """A test set without training images."""

    data_set: ClassVar[str]
    """Its name here: that of the source and of its folder under ``$SCAN_BENCH_DATA``."""
    published_as: ClassVar[str]
    """Its name in papers."""
    num_images: ClassVar[int]
    """Images it was published with."""

    root: str = field(default="", metadata=NOT_IDENTITY)
    """The folder that holds the class folders; "" is ``$SCAN_BENCH_DATA/<name of the source>``."""

    @property
    def label(self) -> str:
        return self.data_set

    def expected_samples(self) -> int | None:
        return None

    def training_pool(self) -> Pool:
        raise PoolError(f"{self.label} is a test set: train on another pool and evaluate on it")

    def labelled(self, split: str) -> LabelledSet:
        """``test`` alone. Raises PoolError unless it has the published classes and number of images."""
        if split != "test":
            raise PoolError(f"{self.label} has no split '{split}': it is a test set (known: test)")
        pool = self._open()
        wnids, labels = self._labels(pool)
        names = published.names_of_wnids(wnids)
        templates = published.templates(published.IMAGENET)
        return LabelledSet(self.label, "test", pool.images(), labels, names, templates, wnids)

    def _wnids(self) -> Sequence[str]:
        """The set's classes, by label."""
        return published.wnids()

    def _folders(self) -> Sequence[Path]:
        """Where the class folders may lie, in the order they are looked for."""
        return (data_folder(self.root, self.data_set),)

    def _labels(self, pool: FolderPool) -> tuple[Sequence[str], np.ndarray]:
        """The classes, and each image's index into them, int64 [n]."""
        wnids = self._wnids()
        self._check_classes(pool, wnids)
        return wnids, pool.labels().astype(np.int64)

    def _check_classes(self, pool: FolderPool, expected: Sequence[str]) -> None:
        """Raise PoolError unless the class folders are those of ``expected``, sorted."""
        unknown = sorted(set(pool.classes) - set(expected))
        missing = sorted(set(expected) - set(pool.classes))
        if unknown or missing:
            what = f"a folder {unknown[0]}, which is no class of it" if unknown else f"no folder {missing[0]}"
            raise PoolError(
                f"{self.label}: {pool.folder} has {len(pool.classes)} class folders, {self.published_as} has"
                f" {len(expected)}; it has {what}: unpack it again, and nothing else into that folder"
            )

    def _open(self) -> FolderPool:
        folders = self._folders()
        folder = next((place for place in folders if _has_classes(place)), folders[0])
        try:
            pool = FolderPool.open(folder)
        except PoolError as error:
            raise PoolError(
                f"{self.label}: {error} (expected one folder a class in {' or '.join(map(str, folders))}: set root"
                f" or SCAN_BENCH_DATA; docs/data.md says how to get {self.published_as})"
            ) from error
        if pool.num_samples != self.num_images:
            raise PoolError(
                f"{self.label}: {folder} holds {pool.num_samples} images, {self.published_as} has"
                f" {self.num_images}: unpack it again"
            )
        return pool


def _has_classes(folder: Path) -> bool:
    """Whether ``folder`` has class folders: a wnid each, or a number each."""
    return folder.is_dir() and any(n.isdigit() or (n[:1] == "n" and n[1:].isdigit()) for n in list_classes(folder))
