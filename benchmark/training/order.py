"""The order of an epoch: a permutation of the whole pool by (seed, epoch), then the mask, then batches.

Nothing else enters: not the method, not the number of ranks or workers, not where a run was interrupted.
"""

from __future__ import annotations

import numpy as np

from benchmark.config.launch import LaunchConfig
from benchmark.config.run import TrainConfig
from benchmark.seeds import generator


def epoch_batches(
    keep: np.ndarray,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    shard_starts: np.ndarray | None = None,
    window: int = 0,
) -> np.ndarray:
    """Ids of every global batch of an epoch, [steps, B]; the last incomplete batch is left out.

    ``batch_size`` is the number of samples read at a time: that of a super-batch where there is one.

    ``keep`` is bool [N]. With ``window`` > 0 and shards (int64 [num_shards + 1], first ids and N) the order
    is that of ``window_order``. Raises ValueError if fewer samples than a batch are kept.
    """
    if window and shard_starts is not None:
        order = window_order(shard_starts, window, seed=seed, epoch=epoch)
    else:
        order = full_order(len(keep), seed=seed, epoch=epoch)
    # DEVIATION(epoch_order): a permutation of the whole pool, less its last incomplete batch; the published CLIP
    # code mixes within webdataset's buffers and fills the last batches with repeats, its MoCo code has one order
    # for all preparations but the first
    kept = order[keep[order]]  # filter the full permutation: runs of two methods stay paired
    steps = len(kept) // batch_size
    if steps == 0:
        raise ValueError(
            f"epoch {epoch} keeps {len(kept)} of {len(keep)} samples, fewer than train.batch_size {batch_size}:"
            " use a smaller batch, a larger pool or less pruning"
        )
    return kept[: steps * batch_size].reshape(steps, batch_size)


def full_order(num_samples: int, *, seed: int, epoch: int) -> np.ndarray:
    """A uniform permutation of all ids: for local disks."""
    order = np.arange(num_samples, dtype=_id_type(num_samples))
    generator(seed, "order", epoch).shuffle(order)
    return order


def window_order(shard_starts: np.ndarray, window: int, *, seed: int, epoch: int) -> np.ndarray:
    """Shards in random order, samples mixed within ``window`` consecutive shards of that order.

    A stretch of the epoch reads from ``window`` shards alone: for network file systems and object stores.
    """
    rng = generator(seed, "order", epoch)
    num_shards = len(shard_starts) - 1
    shards = rng.permutation(num_shards)
    order = np.empty(int(shard_starts[-1]), dtype=_id_type(int(shard_starts[-1])))
    end = 0
    for first in range(0, num_shards, window):
        start = end
        for shard in shards[first : first + window]:
            count = int(shard_starts[shard + 1] - shard_starts[shard])
            order[end : end + count] = np.arange(shard_starts[shard], shard_starts[shard + 1])
            end += count
        rng.shuffle(order[start:end])
    return order


def spares(batches: np.ndarray, position: int, count: int) -> list[int]:
    """Kept samples that stand in, one after the other, for the one at ``position`` if it cannot be read.

    They lie far from it in the epoch's order, so that no batch sees one twice unless the epoch is tiny.
    """
    flat = batches.reshape(-1)
    step = max(1, len(flat) // (count + 1))
    return [int(flat[(position + i * step) % len(flat)]) for i in range(1, count + 1)]


def steps_in_epoch(num_samples: int, batch_size: int) -> int:
    """Optimiser steps of an epoch on the full pool."""
    return num_samples // batch_size


def super_batch_size(batch_size: int, factor: float, num_ranks: int) -> int:
    """Samples read for each global batch: ``round(batch_size * factor)``.

    Raises ValueError if ranks cannot share them evenly.
    """
    size = round(batch_size * factor)
    if size % num_ranks:
        raise ValueError(
            f"train.batch_size {batch_size} is chosen from {size} samples ({factor:g} times as many), which is not"
            f" a multiple of the {num_ranks} ranks: change the batch size or the share that is chosen"
        )
    return size


def ahead_bytes(train: TrainConfig, launch: LaunchConfig, super_batch: float, example_bytes: int) -> int:
    """Bytes of the batches that the loaders of a machine's ranks read ahead at most.

    They wait in its shared memory; a GPU's move from there into pinned memory.
    """
    examples = super_batch_size(train.batch_size, super_batch, launch.num_ranks) // launch.num_ranks
    return launch.ranks_per_node * train.num_workers * train.prefetch * examples * example_bytes


def _id_type(num_samples: int) -> type[np.unsignedinteger]:
    return np.uint32 if num_samples <= 1 << 32 else np.uint64
