"""Epochs of a pool: a permutation of all ids, the mask, then batches that are read and decoded.

The order depends on (seed, epoch) alone and the mask filters it before anything is read: a pruned sample
costs nothing, two methods see their common samples in one order, and any batch of any epoch can be had
directly. Workers are told (epoch, id), so that none can hold a stale mask.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmark.objective import Tensors, Transform
from benchmark.pool import Pool
from benchmark.seeds import generator, seed_of


def epoch_batches(keep: np.ndarray, *, seed: int, epoch: int, batch_size: int) -> np.ndarray:
    """Ids of every global batch of an epoch, int64 [steps, B]; the last incomplete batch is left out.

    ``keep`` is bool [N]. Raises ValueError if fewer than a batch are kept.
    """
    order = generator(seed, "order", epoch).permutation(len(keep))
    kept = order[keep[order]]  # filter the full permutation: runs of two methods stay paired
    steps = len(kept) // batch_size
    if steps == 0:
        raise ValueError(
            f"epoch {epoch} keeps {len(kept)} of {len(keep)} samples, fewer than train.batch_size {batch_size}:"
            " use a smaller batch, a larger pool or less pruning"
        )
    return kept[: steps * batch_size].reshape(steps, batch_size)


@dataclass(frozen=True)
class Batch:
    """This rank's part of a global batch."""

    ids: Tensor
    """int64 [b]"""
    tensors: Tensors


class Loader:
    """Reads this rank's batches with ``num_workers`` processes; the batches do not depend on how many."""

    def __init__(
        self,
        pool: Pool,
        transform: Transform,
        *,
        batch_size: int,
        seed: int,
        num_workers: int = 0,
        rank: int = 0,
        world: int = 1,
        pin_memory: bool = False,
    ) -> None:
        if batch_size % world:
            raise ValueError(f"train.batch_size {batch_size} is not a multiple of the {world} ranks")
        self.batch_size, self.seed = batch_size, seed
        self.part = slice(rank * (batch_size // world), (rank + 1) * (batch_size // world))
        self.wait_seconds = 0.0
        """Time spent waiting for batches, in all."""
        self._batches = _Batches()
        self._loader: DataLoader[Any] = DataLoader(
            _Examples(pool, transform, seed),
            batch_sampler=self._batches,
            num_workers=num_workers,
            collate_fn=_collated,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            worker_init_fn=_one_thread,
            generator=torch.Generator(),  # else the loader draws from the global generator
        )

    def epoch(self, epoch: int, keep: np.ndarray, first_step: int = 0) -> tuple[int, Iterator[Batch]]:
        """Steps in the epoch, and its batches from ``first_step`` on."""
        batches = epoch_batches(keep, seed=self.seed, epoch=epoch, batch_size=self.batch_size)
        self._batches.epoch, self._batches.ids = epoch, batches[first_step:, self.part]
        return len(batches), self._timed()

    def _timed(self) -> Iterator[Batch]:
        started = time.perf_counter()
        for batch in self._loader:
            self.wait_seconds += time.perf_counter() - started
            yield batch
            started = time.perf_counter()


class _Batches(Sampler[list[tuple[int, int]]]):
    """The batches of the current epoch, in the main process."""

    def __init__(self) -> None:
        self.epoch = 0
        self.ids: np.ndarray = np.zeros((0, 0), dtype=np.int64)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for row in self.ids:
            yield [(self.epoch, sample_id) for sample_id in row.tolist()]

    def __len__(self) -> int:
        return len(self.ids)


class _Examples(Dataset[Batch]):
    """Reads, decodes and augments; each sample's augmentation depends on (seed, epoch, id) alone."""

    def __init__(self, pool: Pool, transform: Transform, seed: int) -> None:
        self.pool, self.transform, self.seed = pool, transform, seed

    def __getitems__(self, wanted: list[tuple[int, int]]) -> Batch:
        state = torch.default_generator.get_state()
        try:
            examples = [self._example(epoch, sample_id) for epoch, sample_id in wanted]
        finally:
            torch.default_generator.set_state(state)  # without workers this is the trainer's own generator
        ids = torch.tensor([sample_id for _, sample_id in wanted], dtype=torch.int64)
        return Batch(ids, tuple(torch.stack(column) for column in zip(*examples, strict=True)))

    def _example(self, epoch: int, sample_id: int) -> Tensors:
        torch.default_generator.manual_seed(seed_of(self.seed, "augment", epoch, sample_id))
        return self.transform(self.pool.read(sample_id))


def _collated(batch: Any) -> Any:
    return batch  # ``_Examples`` already stacked it


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


def steps_in_epoch(num_samples: int, batch_size: int) -> int:
    """Optimiser steps of an epoch on the full pool."""
    return num_samples // batch_size
