"""What probes with augmentation and fine-tuning share: seeded batches of decoded images, and predictions.

Letters in shapes: b images in a batch, C classes.
"""

from __future__ import annotations

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
from benchmark.models.encoder import ImageTransform
from benchmark.seeds import generator, seed_of

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
        """All epochs; loader workers live through all of them."""
        wanted = [(e, s, rows) for e in range(epochs) for s, rows in enumerate(self.rows(e))]
        loader: DataLoader[Batch] = DataLoader(
            _Augmented(self),
            sampler=wanted,  # a batch's place and rows stand for an index
            batch_size=None,
            num_workers=self.num_workers,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # else the loader draws from the global generator
        )
        yield from loader


class _Augmented(Dataset[Batch]):
    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, wanted: tuple[int, int, np.ndarray]) -> Batch:
        epoch, step, rows = wanted
        of = self.batches
        images = []
        with seeded(of.seed, of.purpose):  # puts back what was; each image has a seed of its own
            for i, row in enumerate(rows):
                _start_at(seed_of(of.seed, f"{of.purpose} augment", epoch, step, i))
                images.append(of.transform(of.images[row].convert("RGB")))
        return Batch(epoch, step, torch.stack(images), torch.from_numpy(of.labels[rows]))


def _start_worker(_worker: int) -> None:
    signals.in_worker()
    torch.set_num_threads(1)


def predictions(
    model: nn.Module, images: Sequence[Image.Image], transform: ImageTransform, among: np.ndarray | None = None
) -> np.ndarray:
    """The class of the largest logit of each image, in eval mode: int64 [n].

    ``among``, int64 [c], restricts the logits to these classes: then it is the place in it.
    """
    device = next(model.parameters()).device
    model.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), EVAL_BATCH):
            rows = range(start, min(start + EVAL_BATCH, len(images)))
            batch = torch.stack([transform(images[row].convert("RGB")) for row in rows])
            logits = model(batch.to(device))  # [b, C]
            logits = logits if among is None else logits[:, torch.from_numpy(among).to(device)]
            found.append(logits.argmax(dim=1).cpu().numpy())
    return np.concatenate(found)
