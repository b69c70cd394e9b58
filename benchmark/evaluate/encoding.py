"""Items -> rows of features, here or with processes that decode ahead; what cannot be decoded is marked.

Letters in shapes: n items, b images in a batch, d feature width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmark import signals
from benchmark.pool.samples import SampleError, Some

logger = logging.getLogger(__name__)

UNREADABLE = -np.inf
"""Fills the row of an image that cannot be decoded."""


def is_unreadable(rows: np.ndarray) -> np.ndarray:
    """Which rows of features are of images that could not be decoded, bool [n]."""
    flags: np.ndarray = rows[:, :1].max(axis=1, initial=UNREADABLE) == UNREADABLE
    return flags


def encoded(items: Sequence[Any], encode: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Rows of all items, of those that cannot be decoded ``UNREADABLE``. Raises SampleError if none can be."""
    try:
        return encode(items)
    except SampleError as error:
        first = error
    readable = [place for place in range(len(items)) if can_be_read(items, place)]
    if not readable:
        raise first
    rows = encode(Some(items, readable))
    whole = np.full((len(items), rows.shape[1]), UNREADABLE, dtype=np.float32)
    whole[readable] = rows
    return whole


def can_be_read(items: Sequence[Any], place: int) -> bool:
    try:
        items[place]
    except SampleError as error:
        logger.warning("left out of the evaluation: %s", error)
        return False
    return True


def loaded(
    encoder: Any, images: Sequence[Image.Image], parts: Sequence[range], num_workers: int, **options: str
) -> Generator[np.ndarray, None, None]:
    """For each part of the images what ``encoded`` gives, bit for bit; workers hand over pixels as bytes.

    ``encoder`` has ``image_pixels``, ``embed_images``, which gets ``options``, and ``batch_size``.
    """
    size = encoder.batch_size
    loader: DataLoader[Any] = DataLoader(
        _Pixels(images, encoder.image_pixels),
        sampler=[part[k : k + size] for part in parts for k in range(0, len(part), size)],  # batches, as indices
        batch_size=None,
        num_workers=num_workers,
        worker_init_fn=start_worker,
        generator=torch.Generator(),  # else the loader draws from the global generator
    )
    batches = iter(loader)
    for part in parts:
        waiting, unreadable, rows = torch.empty(0, dtype=torch.uint8), [], []
        for _ in range(0, len(part), size):
            flags, pixels = next(batches)
            unreadable.append(np.asarray(flags))
            waiting = torch.cat([waiting, pixels]) if len(waiting) else pixels
            if len(waiting) >= size:  # the encoder's batches have no gaps where images cannot be decoded
                rows.append(encoder.embed_images(waiting[:size], **options))
                waiting = waiting[size:]
        if len(waiting):
            rows.append(encoder.embed_images(waiting, **options))
        is_bad = np.concatenate(unreadable)
        if is_bad.all():
            images[part[0]]  # raises SampleError
        whole = np.full((len(part), rows[0].shape[1]), UNREADABLE, dtype=np.float32)
        whole[~is_bad] = np.concatenate(rows)
        yield whole


class _Pixels(Dataset[Any]):
    """Places of a batch -> which cannot be decoded, bool [b], and the others' pixels, uint8 [m, H, W, 3]."""

    def __init__(self, images: Sequence[Image.Image], image_pixels: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.image_pixels = images, image_pixels

    def __getitem__(self, places: range) -> tuple[Tensor, Tensor]:
        found = [self._pixels(place) for place in places]
        there = [pixels for pixels in found if pixels is not None]
        stack = torch.stack(there) if there else torch.empty(0, dtype=torch.uint8)
        return torch.tensor([pixels is None for pixels in found]), stack

    def _pixels(self, place: int) -> Tensor | None:
        try:
            return self.image_pixels(self.images[place])
        except SampleError as error:
            logger.warning("left out of the evaluation: %s", error)
            return None


def start_worker(_worker: int) -> None:
    """For ``worker_init_fn``."""
    signals.in_worker()
    torch.set_num_threads(1)
