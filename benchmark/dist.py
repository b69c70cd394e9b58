"""Ranks: who am I, gather, broadcast, agree. Everything is a no-op on one process."""

from __future__ import annotations

import torch
import torch.distributed as td
from torch import Tensor


def is_distributed() -> bool:
    return td.is_available() and td.is_initialized()


def rank() -> int:
    return td.get_rank() if is_distributed() else 0


def world() -> int:
    return td.get_world_size() if is_distributed() else 1


def gather(tensor: Tensor) -> Tensor:
    """Rows of all ranks in rank order, without gradient: [b, ...] -> [B, ...]. Every rank holds b rows."""
    if world() == 1:
        return tensor.detach()
    parts = [torch.empty_like(tensor) for _ in range(world())]
    td.all_gather(parts, tensor.detach().contiguous())
    return torch.cat(parts)


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """Rows of all ranks in rank order; the gradient flows back to the rank that made a row. [b, d] -> [B, d]."""
    if world() == 1:
        return tensor
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(tensor.contiguous()))


def assert_same(value: int, what: str) -> None:
    """Raise RuntimeError unless all ranks hold the same number."""
    if world() == 1:
        return
    values: list[object] = [None] * world()
    td.all_gather_object(values, value)
    if len(set(values)) != 1:
        raise RuntimeError(f"ranks disagree on {what}: {values}")
