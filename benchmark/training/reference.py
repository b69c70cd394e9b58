"""The mean loss of reference data under the present model: what alignment compares a sample's losses with.

The same samples in the same batches and augmentations each time, so that what changes is the model's doing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from benchmark.config.run import TrainConfig
from benchmark.models.objective import Objective
from benchmark.pool.samples import Pool, PoolError
from benchmark.training import super_batch
from benchmark.training.loader import Loader


class Reference:
    """Reference data in whole global batches, which ranks share as they share the pool's."""

    def __init__(
        self, pool: Pool, objective: Objective, config: TrainConfig, seed: int, rank: int, world: int
    ) -> None:
        if pool.num_samples < config.batch_size:
            raise PoolError(
                f"the reference data has {pool.num_samples} samples, fewer than the {config.batch_size} of"
                " train.batch_size: a contrastive loss is compared at one size; take more data or a smaller batch"
            )
        self.pool, self.objective = pool, objective
        self.at_once = config.batch_size // world // config.accumulate
        size = config.batch_size
        self.loader = Loader(
            *(pool, objective.transform),
            batch_size=size,
            seed=seed,
            rank=rank,
            world=world,
            decoder=config.decoder,
        )

    def loss(self, device: torch.device, autocast: Callable[[], AbstractContextManager[Any]]) -> tuple[float, int]:
        """Mean over samples and directions, the same on every rank, and how many samples went forward.

        Nothing in the model changes. Raises PoolError for a sample that cannot be read, FloatingPointError for a
        loss that is not finite.
        """
        _, batches = self.loader.epoch(0, np.ones(self.pool.num_samples, dtype=bool))
        total, count = 0.0, 0
        for batch in batches:
            if batch.faults:
                raise PoolError(f"the reference data cannot be read: {batch.faults[0].message}")
            tensors = tuple(t.to(device, non_blocking=True) for t in batch.tensors)
            scored = self.objective.scored(tensors, None, autocast, self.at_once)
            losses = super_batch.gathered(batch.ids, *scored).losses
            total += float(losses.double().sum())
            count += len(losses)
        mean = total / (2 * count)
        if not math.isfinite(mean):
            raise FloatingPointError("the loss of the reference data is not finite")
        return mean, count
