"""Reads an epoch's batches: a pruned sample costs nothing, and any batch of any epoch can be had directly.

The main process holds the order and the mask; workers are told which samples to read, so that none can hold
a stale mask. A sample that cannot be read gives its place to another, the same one wherever that happens.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from benchmark import signals
from benchmark.models.objective import Tensors, Transform
from benchmark.pool.samples import Pool, PoolError, SampleError, drawn
from benchmark.seeds import seed_of
from benchmark.training.order import epoch_batches, spares, super_batch_size

SPARES = 3
SHARED_MEMORY = "/dev/shm"
"""Where Linux keeps the batches that workers hand over."""


class Fault(NamedTuple):
    """A sample that could not be read."""

    sample_id: int
    reason: str
    message: str


@dataclass(frozen=True)
class Batch:
    """This rank's part of a global batch."""

    ids: Tensor
    """int64 [b]: the samples that were read."""
    tensors: Tensors
    faults: tuple[Fault, ...] = ()
    """Samples that others stand in for."""

    def pin_memory(self) -> Batch:
        """Called by torch's loader for a GPU's sake."""
        return Batch(self.ids.pin_memory(), tuple(t.pin_memory() for t in self.tensors), self.faults)


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
        window: int = 0,
        pin_memory: bool = False,
        prefetch: int = 4,
        decoder: str = "pillow",
    ) -> None:
        if batch_size % world:
            raise ValueError(f"train.batch_size {batch_size} is not a multiple of the {world} ranks")
        self.batch_size, self.seed, self.window, self.world = batch_size, seed, window, world
        self.pool, self.shard_starts = pool, pool.shard_starts
        self.wait_seconds = 0.0
        """Time spent waiting for batches, in all."""
        self._batches = _Batches(world, rank)
        self._loader: DataLoader[Any] = DataLoader(
            _Examples(pool, transform, seed, decoder),
            batch_sampler=self._batches,
            num_workers=num_workers,
            collate_fn=_collated,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            prefetch_factor=prefetch if num_workers else None,
            worker_init_fn=start_worker,
            generator=torch.Generator(),  # else the loader draws from the global generator
        )

    def epoch(
        self, epoch: int, keep: np.ndarray, first_step: int = 0, super_batch: float = 1.0
    ) -> tuple[int, Iterator[Batch]]:
        """Steps in the epoch, and its batches from ``first_step`` on, each ``super_batch`` times as large."""
        batches = epoch_batches(
            keep,
            seed=self.seed,
            epoch=epoch,
            batch_size=super_batch_size(self.batch_size, super_batch, self.world),
            shard_starts=self.shard_starts,
            window=self.window,
        )
        self._batches.set(epoch, batches, first_step)
        return len(batches), self._timed(batches[first_step:])

    def close(self) -> None:
        """End the workers; ``epoch`` would start new ones."""
        end_workers(self._loader)

    def _timed(self, batches: np.ndarray) -> Iterator[Batch]:
        started = time.perf_counter()
        read = iter(self._loader)  # before the pool may start a thread: this forks the workers
        with self.pool.expect(batches.reshape(-1)) as count:
            for step, batch in enumerate(read, start=1):
                self.wait_seconds += time.perf_counter() - started
                yield batch
                count(step * batches.shape[1])
                started = time.perf_counter()


class _Wanted(NamedTuple):
    """One rank's part of one batch: what a worker is asked for."""

    epoch: int
    ids: list[int]
    spares: list[list[int]]


class _Batches(Sampler[Any]):
    """The batches of the current epoch, in the main process."""

    def __init__(self, world: int, rank: int) -> None:
        self.world, self.rank = world, rank
        self.set(0, np.zeros((0, 0), dtype=np.int64), 0)

    def set(self, epoch: int, batches: np.ndarray, first_step: int) -> None:
        self.epoch, self.batches, self.first_step = epoch, batches, first_step

    def __iter__(self) -> Iterator[_Wanted]:
        epoch, batches = self.epoch, self.batches  # [steps, B]
        size = batches.shape[1] // self.world
        start = self.rank * size
        for step in range(self.first_step, len(batches)):
            ids = batches[step, start : start + size].tolist()
            first = step * batches.shape[1] + start
            yield _Wanted(epoch, ids, [spares(batches, first + i, SPARES) for i in range(len(ids))])

    def __len__(self) -> int:
        return len(self.batches) - self.first_step


class _Examples(Dataset[Batch]):
    """Reads, decodes and augments; a sample's caption and augmentation depend on (seed, epoch, id) alone."""

    def __init__(self, pool: Pool, transform: Transform, seed: int, decoder: str) -> None:
        self.transform, self.seed = transform, seed
        self.read = pool.read_pixels if decoder == "torchvision" else pool.read

    def __getitems__(self, wanted: _Wanted) -> Batch:
        state = torch.default_generator.get_state()
        faults: list[Fault] = []
        try:
            read = [
                self._first_readable(wanted.epoch, [sample_id, *others], faults)
                for sample_id, others in zip(wanted.ids, wanted.spares, strict=True)
            ]
        finally:
            torch.default_generator.set_state(state)  # without workers this is the trainer's own generator
        ids = torch.tensor([sample_id for sample_id, _ in read], dtype=torch.int64)
        columns = zip(*(example for _, example in read), strict=True)
        # in a worker this stacks into the memory that it shares with the trainer: a copy less
        return Batch(ids, tuple(default_collate(list(column)) for column in columns), tuple(faults))

    def _first_readable(self, epoch: int, ids: list[int], faults: list[Fault]) -> tuple[int, Tensors]:
        for sample_id in ids:
            torch.default_generator.manual_seed(seed_of(self.seed, "augment", epoch, sample_id))
            try:
                sample = self.read(sample_id)
                if sample.further:
                    sample = drawn(sample, seed_of(self.seed, "caption", epoch, sample_id))
                return sample_id, self.transform(sample)
            except SampleError as error:
                faults.append(Fault(sample_id, error.reason, str(error)))
        raise PoolError(f"{len(ids)} samples in a row cannot be read, the last: {faults[-1].message}")


def check_shared_memory(needed: int) -> None:
    """Raise ValueError unless shared memory has room for ``needed`` bytes: a worker would die of a bus error."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:  # a system that shares memory elsewhere
        return
    free = found.f_bavail * found.f_frsize
    if needed > free:
        raise ValueError(
            f"{SHARED_MEMORY} has {free / 1e9:.1f} GB free, loader workers read up to {needed / 1e9:.1f} GB ahead:"
            " lower train.num_workers or train.prefetch, or give it more room (a container: --shm-size)"
        )


def _collated(batch: Any) -> Any:
    return batch  # ``_Examples`` already stacked it


def start_worker(_worker: int) -> None:
    """What every worker of a loader does first."""
    signals.in_worker()
    torch.set_num_threads(1)


def end_workers(loader: DataLoader[Any]) -> None:
    """Shut a loader's processes down, by force those that are stuck."""
    iterator, loader._iterator = loader._iterator, None
    if iterator is None:
        return
    workers = list(getattr(iterator, "_workers", ()))
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()
    for worker in workers:
        if worker.is_alive():
            worker.kill()
        worker.join()
