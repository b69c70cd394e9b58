"""Super-batches: a global batch chosen from a larger one, which a forward pass without gradient has scored.

A rank brings its part of the super-batch and leaves with its part of the chosen samples. Letters in shapes: s
samples of the super-batch on this rank, S on all; b and B likewise for the chosen ones; ranks hold equal parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark import dist
from benchmark.models.objective import Tensors
from benchmark.pruner import PlanError, Pruner
from benchmark.training.device import sent


@dataclass(frozen=True)
class Scores:
    """What a method chooses by: the whole super-batch in rank order, the same on every rank."""

    ids: Tensor
    """int64 [S]."""
    losses: Tensor
    """float32 [S, 2], a column a direction."""
    similarity: Tensor
    """float32 [S]: cosine with the own positive."""


def gathered(ids: Tensor, losses: Tensor, similarity: Tensor) -> Scores:
    """Scores [s] of every rank, brought together on the host, which waits for the device once; ids are there."""
    return Scores(*dist.gather_to_host(sent(ids, losses.device), losses, similarity))


def choose(pruner: Pruner, epoch: int, step: int, scores: Scores, count: int) -> np.ndarray:
    """What the method chooses: int64 [B], rising. Raises PlanError for anything else."""
    size = len(scores.ids)
    arrays = (scores.ids.numpy(), scores.losses.numpy(), scores.similarity.numpy())
    positions = np.asarray(pruner.choose(epoch, step, *arrays, count))
    is_rising = positions.ndim == 1 and positions.dtype.kind in "iu" and bool((np.diff(positions) > 0).all())
    if not is_rising or len(positions) != count or positions[0] < 0 or positions[-1] >= size:
        raise PlanError(
            f"{type(pruner).__name__}.choose must return {count} different positions below {size} in rising order,"
            f" got {positions.dtype} {list(positions.shape)}"
        )
    return positions.astype(np.int64)


def dealt(tensors: Tensors, positions: np.ndarray) -> Tensors:
    """This rank's part of the chosen samples, each [b, ...], from what ranks hold of the super-batch, [s, ...].

    Ranks share the chosen ones evenly, in their order; a sample crosses to another rank at most once.
    """
    held = len(tensors[0])
    counts = np.bincount(positions // held, minlength=dist.world()).tolist()
    local = sent(torch.from_numpy(positions[positions // held == dist.rank()] % held), tensors[0].device)
    return tuple(dist.deal(t[local], counts) for t in tensors)
