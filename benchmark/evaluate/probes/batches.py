"""What probes with augmentation and fine-tuning share: seeded batches of decoded images, and predictions.

Letters in shapes: b images in a batch, C classes.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmark import signals
from benchmark.evaluate.scores import check_readable
from benchmark.models.encoder import ImageTransform
from benchmark.pool.samples import PoolError, SampleError
from benchmark.pool.source import AnySet
from benchmark.seeds import generator, seed_of

logger = logging.getLogger(__name__)

EVAL_BATCH = 256


@contextmanager
def seeded(seed: int, purpose: str, *position: int) -> Iterator[None]:
    """Inside, the generators of torch, numpy and Python that libraries draw from start at these seeds; outside
    they are as they were."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002  (timm draws from it)
    gpus = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=gpus):
        try:
            _start_at(seed_of(seed, purpose, *position))
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


def _start_at(value: int) -> None:
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(value)  # torch.manual_seed would queue work for a GPU not yet in use
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(value)


class Batch(NamedTuple):
    epoch: int
    step: int
    """Within the epoch."""
    images: Tensor
    """float32 [b, 3, H, W]"""
    labels: Tensor
    """int64 [b]"""
    unreadable: np.ndarray
    """Rows of images that cannot be decoded, in whose place others of the batch stand."""


@dataclass(frozen=True)
class Batches:
    """Shuffled, augmented batches of labelled images; each image's augmentation has a seed of its own."""

    images: Sequence[Image.Image]
    labels: np.ndarray
    transform: ImageTransform
    batch_size: int
    seed: int
    purpose: str
    drop_last: bool = False
    repeats: int = 1
    """Copies of an image in an epoch, which then visits the share of 1 / ``repeats`` of the images."""
    num_workers: int = 0

    def rows(self, epoch: int) -> list[np.ndarray]:
        """Rows of the images of each batch, int64 [b]."""
        order = generator(self.seed, f"{self.purpose} order", epoch).permutation(len(self.labels))
        order = np.repeat(order, self.repeats)[: len(order)]
        batches = [order[k : k + self.batch_size] for k in range(0, len(order), self.batch_size)]
        return batches[:-1] if self.drop_last and len(batches[-1]) < self.batch_size else batches

    def steps(self) -> int:
        """Batches of an epoch."""
        return len(self.rows(0))

    def run(self, epochs: int) -> Iterator[Batch]:
        """All epochs; loader workers live through all of them.

        Raises PoolError once too many of the images have turned out to be unreadable.
        """
        wanted = [(e, s, rows) for e in range(epochs) for s, rows in enumerate(self.rows(e))]
        loader: DataLoader[Batch] = DataLoader(
            _Augmented(self),
            sampler=wanted,  # a batch's place and rows stand for an index
            batch_size=None,
            num_workers=self.num_workers,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # else the loader draws from the global generator
        )
        unreadable: set[int] = set()
        for batch in loader:
            unreadable.update(batch.unreadable.tolist())
            check_readable(self.images, unreadable, self.purpose)
            yield batch


class _Augmented(Dataset[Batch]):
    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, wanted: tuple[int, int, np.ndarray]) -> Batch:
        epoch, step, rows = wanted
        of = self.batches
        images, kept = [], []
        with seeded(of.seed, of.purpose):  # puts back what was; each image has a seed of its own
            for i, row in enumerate(rows):
                image = _decoded(of.images, row)
                if image is None:
                    continue
                _start_at(seed_of(of.seed, f"{of.purpose} augment", epoch, step, i))
                images.append(of.transform(image))
                kept.append(row)
        unreadable = np.setdiff1d(rows, kept)
        if not kept:
            raise PoolError(f"{of.purpose}: none of a batch of {len(rows)} images can be decoded")
        for i in range(len(rows) - len(kept)):  # the others again: a batch keeps its size
            images.append(images[i % len(kept)])
            kept.append(kept[i % len(kept)])
        labels = torch.from_numpy(of.labels[np.array(kept)])
        return Batch(epoch, step, torch.stack(images), labels, unreadable)


def _start_worker(_worker: int) -> None:
    signals.in_worker()
    torch.set_num_threads(1)


def predictions(
    model: nn.Module, test: AnySet, transform: ImageTransform, among: np.ndarray | None = None
) -> tuple[AnySet, np.ndarray]:
    """What of the set can be decoded, and the class of the largest logit of each of these images, int64 [m].

    In eval mode. ``among``, int64 [c], restricts the logits to these classes: then it is the place in it. Raises
    PoolError if too many images cannot be decoded.
    """
    device = next(model.parameters()).device
    model.eval()
    found = np.full(len(test.images), -1, dtype=np.int64)
    with torch.inference_mode():
        for start in range(0, len(found), EVAL_BATCH):
            rows = range(start, min(start + EVAL_BATCH, len(found)))
            decoded = {row: image for row in rows if (image := _decoded(test.images, row)) is not None}
            if not decoded:
                continue
            batch = torch.stack([transform(image) for image in decoded.values()])
            logits = model(batch.to(device))  # [b, C]
            logits = logits if among is None else logits[:, torch.from_numpy(among).to(device)]
            found[list(decoded)] = logits.argmax(dim=1).cpu().numpy()
    is_readable = found >= 0
    check_readable(test.images, np.flatnonzero(~is_readable).tolist(), test.name)
    return test.only(is_readable), found[is_readable]


def _decoded(images: Sequence[Image.Image], row: int) -> Image.Image | None:
    """RGB; None, with a warning that names it, for one that cannot be decoded."""
    try:
        return images[row].convert("RGB")
    except SampleError as error:
        logger.warning("left out of the evaluation: %s", error)
        return None
