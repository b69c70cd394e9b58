"""What probes with augmentation and fine-tuning share: seeded batches of decoded images, and predictions.

All ranks take the same steps: each decodes its part of a batch, and a batch's images do not depend on how many.
Letters in shapes: b images in a part of a batch, C classes.
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
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmark import dist, signals
from benchmark.evaluate.encoding import start_worker
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
    """This rank's part of a batch."""

    epoch: int
    step: int
    """Within the epoch."""
    images: Tensor
    """float32 [b, 3, H, W]"""
    labels: Tensor
    """int64 [b]"""
    unreadable: Tensor
    """Rows of images that cannot be decoded, in whose place others of the batch stand: int64."""
    places: Tensor
    """Where this part stands in the batch, int64 [b]."""
    num_images: int
    """Of the whole batch."""
    weight: float = 1.0
    """Times the mean loss of this part: the sum over ranks is the mean over the batch."""
    asked: int = 0
    """Not 0 if a rank was asked to stop (``signals.asked``)."""


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
    is_shared: bool = True
    """Whether ranks have a part of each batch; else each has all of it."""

    def rows(self, epoch: int) -> list[np.ndarray]:
        """Rows of the images of each batch, int64 [b]."""
        order = generator(self.seed, f"{self.purpose} order", epoch).permutation(len(self.labels))
        order = np.repeat(order, self.repeats)[: len(order)]
        batches = [order[k : k + self.batch_size] for k in range(0, len(order), self.batch_size)]
        return batches[:-1] if self.drop_last and len(batches[-1]) < self.batch_size else batches

    def steps(self) -> int:
        """Batches of an epoch."""
        return len(self.rows(0))

    def run(self, epochs: int, first: tuple[int, int] = (0, 0)) -> Iterator[Batch]:
        """This rank's part of all batches from the epoch and step ``first`` on; workers live through all epochs.

        Raises PoolError once too many of the images have turned out to be unreadable.
        """
        world = dist.world() if self.is_shared else 1
        augmented = _Augmented(self, dist.rank() if self.is_shared else 0, world)
        loader: DataLoader[Batch] = DataLoader(
            augmented,
            sampler=_Wanted(self, epochs, first),
            batch_size=None,
            num_workers=self.num_workers,
            worker_init_fn=start_worker,
            generator=torch.Generator(),  # else the loader draws from the global generator
        )
        unreadable: set[int] = set()
        for batch in loader:
            told = dist.gather_objects((batch.unreadable.tolist(), signals.asked()))
            bad = {row for rows, _ in told for row in rows}
            if bad and world > 1:  # others of the batch stand in for them: which, only all of it tells
                batch = augmented.from_all(batch.epoch, batch.step, self.rows(batch.epoch)[batch.step])
            unreadable.update(bad)
            check_readable(self.images, unreadable, self.purpose)
            everybodys = len(batch.places) == batch.num_images
            weight = 1 / dist.world() if everybodys else len(batch.places) / batch.num_images
            yield batch._replace(weight=weight, asked=max(asked for _, asked in told))


class _Wanted(Sampler[tuple[int, int, np.ndarray]]):
    """Places and rows of batches, which stand for an index; an epoch in memory at a time."""

    def __init__(self, batches: Batches, epochs: int, first: tuple[int, int]) -> None:
        self.batches, self.epochs, self.first = batches, epochs, first

    def __iter__(self) -> Iterator[tuple[int, int, np.ndarray]]:
        for epoch in range(self.first[0], self.epochs):
            for step, rows in enumerate(self.batches.rows(epoch)):
                if (epoch, step) >= self.first:
                    yield epoch, step, rows


class _Augmented(Dataset[Batch]):
    def __init__(self, batches: Batches, rank: int, world: int) -> None:
        self.batches, self.rank, self.world = batches, rank, world

    def __getitem__(self, wanted: tuple[int, int, np.ndarray]) -> Batch:
        epoch, step, rows = wanted
        return self._of(epoch, step, rows, part_of(len(rows), self.rank, self.world))

    def from_all(self, epoch: int, step: int, rows: np.ndarray) -> Batch:
        """This rank's part of a batch some of whose images cannot be decoded, by any rank."""
        places = part_of(len(rows), self.rank, self.world)
        whole = self._of(epoch, step, rows, np.arange(len(rows)))
        chosen = torch.from_numpy(places)
        return whole._replace(images=whole.images[chosen], labels=whole.labels[chosen], places=chosen)

    def _of(self, epoch: int, step: int, rows: np.ndarray, places: np.ndarray) -> Batch:
        """The images at some places of the batch. Raises PoolError if none of the whole batch can be decoded."""
        of = self.batches
        images, kept = [], []
        with seeded(of.seed, of.purpose):  # puts back what was; each image has a seed of its own
            for i in places.tolist():
                image = _decoded(of.images, rows[i])
                if image is None:
                    continue
                _start_at(seed_of(of.seed, f"{of.purpose} augment", epoch, step, i))
                images.append(of.transform(image))
                kept.append(rows[i])
        unreadable = torch.from_numpy(np.setdiff1d(rows[places], kept).astype(np.int64))
        if not kept:
            if len(places) == len(rows):
                raise PoolError(f"{of.purpose}: none of a batch of {len(rows)} images can be decoded")
            images, kept = [torch.empty(0)], [rows[0]]  # the part is made anew from all
        for i in range(len(places) - len(kept)):  # the others again: a batch keeps its size
            images.append(images[i % len(kept)])
            kept.append(kept[i % len(kept)])
        labels = torch.from_numpy(of.labels[np.array(kept)])
        where = torch.from_numpy(places)
        return Batch(epoch, step, torch.stack(images), labels, unreadable, where, len(rows))


def part_of(count: int, rank: int, world: int) -> np.ndarray:
    """Places of a batch of ``count`` that a rank has, rising: int64 [b].

    With each place its mirror image, since mixing pairs the two. A batch of fewer than two images a rank is
    everybody's.
    """
    if count < 2 * world:
        return np.arange(count)
    half = (count + 1) // 2
    first = np.arange(rank * half // world, (rank + 1) * half // world)
    return np.union1d(first, count - 1 - first)


def predictions(
    model: nn.Module,
    test: AnySet,
    transform: ImageTransform,
    among: np.ndarray | None = None,
    num_workers: int = 0,
) -> tuple[AnySet, np.ndarray]:
    """What of the set can be decoded, and the class of the largest logit of each of these images, int64 [m].

    In eval mode; ranks share the images. ``among``, int64 [c], restricts the logits to these classes: then it is
    the place in it. Raises PoolError if too many images cannot be decoded.
    """
    device = next(model.parameters()).device
    model.eval()
    found = np.full(len(test.images), -1, dtype=np.int64)
    blocks = [range(k, min(k + EVAL_BATCH, len(found))) for k in range(0, len(found), EVAL_BATCH)]
    loader: DataLoader[tuple[list[int], Tensor]] = DataLoader(
        _Transformed(test.images, transform),
        sampler=blocks[dist.rank() :: dist.world()],
        batch_size=None,
        num_workers=num_workers,
        prefetch_factor=1 if num_workers else None,
        worker_init_fn=start_worker,
        generator=torch.Generator(),
    )
    with torch.inference_mode():
        for rows, images in loader:
            if not rows:
                continue
            logits = model(images.to(device))  # [b, C]
            logits = logits if among is None else logits[:, torch.from_numpy(among).to(device)]
            found[rows] = logits.argmax(dim=1).cpu().numpy()
    found = np.maximum.reduce(dist.gather_objects(found))
    is_readable = found >= 0
    check_readable(test.images, np.flatnonzero(~is_readable).tolist(), test.name)
    return test.only(is_readable), found[is_readable]


class _Transformed(Dataset[tuple[list[int], Tensor]]):
    """Some rows -> those of them that can be decoded, and their images, float32 [b, 3, H, W]."""

    def __init__(self, images: Sequence[Image.Image], transform: ImageTransform) -> None:
        self.images, self.transform = images, transform

    def __getitem__(self, rows: range) -> tuple[list[int], Tensor]:
        decoded = {row: image for row in rows if (image := _decoded(self.images, row)) is not None}
        there = [self.transform(image) for image in decoded.values()]
        return list(decoded), torch.stack(there) if there else torch.empty(0)


def _decoded(images: Sequence[Image.Image], row: int) -> Image.Image | None:
    """RGB; None, with a warning that names it, for one that cannot be decoded."""
    try:
        return images[row].convert("RGB")
    except SampleError as error:
        logger.warning("left out of the evaluation: %s", error)
        return None
