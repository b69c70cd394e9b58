"""Photographs with several captions each, listed in a file of annotations: COCO and Flickr30k for retrieval.

Letters: n images, m captions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.pool.samples import PoolError, SampleError
from benchmark.pool.source import PairSet
from benchmark.pool.storage.annotations import Captioned
from benchmark.pool.storage.byteranges import retried
from benchmark.pool.storage.decode import SampleFault, image_from
from benchmark.pool.storage.imagefolder import LazyImages


def from_csv(path: Path, folder: str) -> list[Captioned]:
    """``image,caption`` after a heading, as clip_benchmark reads it: a caption may hold commas without quotes."""
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(path)[1:], start=2):
        name, found, caption = line.strip().partition(".jpg,")
        if not line.strip():
            continue
        if not found:
            raise PoolError(f"{path}: line {number} is not 'image.jpg,caption'")
        captions.setdefault(f"{name}.jpg", []).append(caption)
    return [Captioned(f"{folder}/{name}", several) for name, several in captions.items()]


def from_token(path: Path, folder: str, names: Sequence[str]) -> list[Captioned]:
    """Flickr30k's own ``image.jpg#0<TAB>caption``, as torchvision reads it, of the images named, sorted."""
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(path), start=1):
        name, found, caption = line.strip().partition("\t")
        if not found:
            raise PoolError(f"{path}: line {number} is not 'image.jpg#0<TAB>caption'")
        captions.setdefault(name.rpartition("#")[0], []).append(caption)
    missing = sorted(set(names) - set(captions))
    if missing:
        raise PoolError(f"{path} has no caption of {missing[0]}")
    return [Captioned(f"{folder}/{name}", captions[name]) for name in sorted(names)]


def pair_set(name: str, root: Path, found: Sequence[Captioned], most: int | None) -> PairSet:
    """The images, decoded when taken out, with at most ``most`` captions each.

    Raises PoolError for an image that is not there, and for an image without a caption or listed twice.
    """
    if not found:
        raise PoolError(f"{name}: the annotations list no image of this split")
    files = [image.file for image in found]
    if len(set(files)) < len(files):
        raise PoolError(f"{name}: the annotations list an image twice")
    content = hashlib.sha256(name.encode())
    for image in found:
        if not image.captions or not all(caption.strip() for caption in image.captions):
            raise PoolError(f"{name}: {image.file} has no caption, or an empty one")
        try:
            content.update(f"{image.file} {(root / image.file).stat().st_size}\n".encode())
        except OSError:
            raise PoolError(f"{name}: {root / image.file}, which the annotations list, is not there") from None
    captions = [list(image.captions[:most]) for image in found]
    owner = np.repeat(np.arange(len(found), dtype=np.int64), [len(several) for several in captions])
    images = LazyImages(range(len(found)), Reader(root, files), content.hexdigest()[:16])
    return PairSet(name, images, [caption.strip() for several in captions for caption in several], owner)


def first_file(root: Path, names: Sequence[str], label: str, published_as: str) -> Path:
    """The first of the files that lies in ``root`` or its ``annotations``. Raises PoolError if none does."""
    for name in names:
        for path in (root / name, root / "annotations" / name):
            if path.is_file():
                return path
    raise PoolError(
        f"{label}: {root} holds no {' nor '.join(names)} (one is expected there, or in annotations: set root"
        f" or SCAN_BENCH_DATA; docs/data.md says how to get {published_as})"
    )


def check_size(pairs: PairSet, num_images: int) -> None:
    """Raise PoolError unless it is the whole split: recall depends on the number of candidates."""
    if len(pairs.images) != num_images:
        raise PoolError(f"{pairs.name}: the annotations list {len(pairs.images)} images, not {num_images}")


@dataclass(frozen=True)
class Reader:
    """Reads the i-th image."""

    root: Path
    files: Sequence[str]

    def __call__(self, index: int) -> Image.Image:
        path = self.root / self.files[index]
        try:
            return image_from(retried(str(path), path.read_bytes), shrink_huge=True)
        except SampleFault as fault:
            raise SampleError(fault.reason, f"{path}: {fault.reason}: {fault}") from fault


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PoolError(f"{path} cannot be read: {error}") from error
