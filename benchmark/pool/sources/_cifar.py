"""CIFAR-10 and CIFAR-100 as torchvision reads them: pictures of 32 px, checked against the published hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from benchmark.options import NOT_IDENTITY
from benchmark.pool.samples import Pool, PoolError, Sample
from benchmark.pool.source import SPLITS, LabelledSet, Source, data_folder
from benchmark.pool.sources import _published as published
from benchmark.pool.storage.imagefolder import LazyImages

READERS: dict[str, Any] = {"cifar10": CIFAR10, "cifar100": CIFAR100}
VERSION = 1
"""Goes up with anything that changes a sample; it is part of the fingerprint."""
EXPECTED = 50_000
LICENCE = (
    "CIFAR-10 and CIFAR-100 come without a licence: their page asks to cite Krizhevsky, Learning Multiple Layers"
    " of Features from Tiny Images, 2009. The pictures are web search results; their rights are with their owners."
)


@dataclass(frozen=True, kw_only=True)
class Cifar(Source):
    """The train split without captions as a pool; both splits with labels."""

    data_set: ClassVar[str]

    root: str = field(default="", metadata=NOT_IDENTITY)
    """The folder that torchvision, or ``prepare``, filled; "" is ``$SCAN_BENCH_DATA/<name of the source>``."""

    @property
    def label(self) -> str:
        return self.data_set

    def expected_samples(self) -> int:
        return EXPECTED

    def training_pool(self) -> CifarPool:
        return CifarPool(self.data_set, self._folder(), "train")

    def licence(self) -> str:
        return LICENCE

    def labelled(self, split: str) -> LabelledSet:
        """The data set's own splits; prompts are the 18 that CLIP's authors wrote for it."""
        if split not in SPLITS:
            raise PoolError(f"{self.label} has no split '{split}' (known: {', '.join(SPLITS)})")
        pool = CifarPool(self.data_set, self._folder(), split)
        _, labels, classes = _load(self.data_set, pool.folder, split)
        # DEVIATION(cifar100): "aquarium fish", as CLIP's authors prompt; clip_benchmark says "aquarium_fish"
        names = [name.replace("_", " ") for name in classes]
        return LabelledSet(self.label, split, pool.images(), labels, names, published.templates(self.data_set))

    def _folder(self) -> Path:
        return data_folder(self.root, self.data_set).absolute()


class CifarPool(Pool):
    """One split without labels; a process reads the files once, and those it forks share the pixels."""

    def __init__(self, data_set: str, folder: Path, split: str) -> None:
        """Raises PoolError if a file is missing or not the published one."""
        self.data_set, self.folder, self.split = data_set, folder, split
        self.num_samples = len(self.pixels)
        reader = READERS[data_set]
        hashes = reader.train_list if split == "train" else reader.test_list
        self.fingerprint = hashlib.sha256(f"{data_set} {VERSION} {hashes}".encode()).hexdigest()[:16]

    def __reduce__(self) -> tuple[object, ...]:
        return CifarPool, (self.data_set, self.folder, self.split)

    @property
    def pixels(self) -> np.ndarray:
        """uint8 [N, 32, 32, 3]"""
        return _load(self.data_set, self.folder, self.split)[0]

    @property
    def sample_classes(self) -> tuple[Sequence[str], np.ndarray]:
        _, labels, names = _load(self.data_set, self.folder, self.split)
        return names, labels

    def images(self) -> LazyImages:
        return LazyImages(range(self.num_samples), lambda i: self.read(i).image, self.fingerprint)

    def key(self, sample_id: int) -> str:
        """Split and place in the data set."""
        return f"{self.split}-{sample_id:05d}"

    def read(self, sample_id: int) -> Sample:
        if not 0 <= sample_id < self.num_samples:
            raise PoolError(f"{self.data_set} has samples 0 to {self.num_samples - 1}, not {sample_id}")
        return Sample(Image.fromarray(self.pixels[sample_id]), "")


def how_to_get(data_set: str, folder: Path) -> str:
    reader = READERS[data_set]
    return (
        f"run  python -m benchmark.pool prepare {data_set} --out {folder}  where there is internet, or unpack"
        f" {reader.url} there"
    )


@lru_cache(maxsize=4)
def _load(data_set: str, folder: Path, split: str) -> tuple[np.ndarray, np.ndarray, Sequence[str]]:
    """Pixels uint8 [N, 32, 32, 3], labels int64 [N], names of the classes by label."""
    try:
        # the reader compares every file with its published MD5 before it unpickles one
        found = READERS[data_set](folder, train=split == "train", download=False)
    except (RuntimeError, OSError) as error:
        reader = READERS[data_set]
        raise PoolError(
            f"{data_set}: {folder / reader.base_folder} is missing, or a file in it is not the published one:"
            f" {how_to_get(data_set, folder)}"
        ) from error
    pixels = np.ascontiguousarray(found.data)
    return pixels, np.array(found.targets, dtype=np.int64), found.classes
