"""Ranks: who am I, gather, broadcast, agree. Everything is a no-op on one process."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as td
from torch import Tensor

from benchmark.files import has_locks, write_text

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)
"""The longest that ranks wait for one another in a step, which all of them take at the same time."""
PATIENCE = timedelta(days=365)
"""The same where one of them may have hours of work before the others go on, such as indexing shards: no limit. A
rank that fails there ends the others (``job.peers``)."""


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
    rows = tensor.new_empty((world() * len(tensor), *tensor.shape[1:]))
    td.all_gather_into_tensor(rows, tensor.detach().contiguous())
    return rows


def gather_to_host(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Rows of all ranks in rank order, on the host: [b, ...] -> [B, ...] of each, from one device.

    One exchange and one copy carry all of them, as bytes: no bit of an id or a loss changes.
    """
    rows = [t.detach().reshape(len(t), -1).contiguous().view(torch.uint8) for t in tensors]  # [b, bytes]
    parts = gather(torch.cat(rows, dim=1)).cpu().split([r.shape[1] for r in rows], dim=1)
    aligned = (part.clone(memory_format=torch.contiguous_format) for part in parts)
    return tuple(a.view(t.dtype).view(-1, *t.shape[1:]) for a, t in zip(aligned, tensors, strict=True))


class _Gathered(torch.autograd.Function):
    """``gather``; a rank's rows get the sum of what all ranks want of them.

    torch takes the exchange of the device that the rows are on, whatever else this machine has.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return gather(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        mine = gradient.new_empty((len(gradient) // world(), *gradient.shape[1:]))
        td.reduce_scatter_tensor(mine, gradient.contiguous())
        return mine


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """Rows of all ranks in rank order; the gradient of a row flows back to its rank. [b, ...] -> [B, ...]."""
    return tensor if world() == 1 else cast(Tensor, _Gathered.apply(tensor))


def deal(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """Rows of all ranks in rank order, shared out evenly in that order: [n, ...] -> [sum(counts) / world, ...].

    ``counts`` are the rows that each rank brings, ``n`` this rank's.
    """
    if world() == 1:
        return rows
    share = sum(counts) // world()
    starts = [sum(counts[:r]) for r in range(world())]

    def crossing(giver: int, taker: int) -> int:
        first, last = max(starts[giver], taker * share), min(starts[giver] + counts[giver], (taker + 1) * share)
        return max(0, last - first)

    mine = rows.new_empty((share, *rows.shape[1:]))
    taken = [crossing(giver, rank()) for giver in range(world())]
    given = [crossing(rank(), taker) for taker in range(world())]
    td.all_to_all_single(mine, rows.contiguous(), taken, given)
    return mine


def assert_same(value: int, what: str) -> None:
    """Raise RuntimeError unless all ranks hold the same number. Hosts ask one another: no device is waited for."""
    if world() == 1:
        return
    values = gather_objects(value)
    if len(set(values)) != 1:
        raise RuntimeError(f"ranks disagree on {what}: {values}")


def gather_objects(value: T) -> list[T]:
    """Every rank's value, in rank order."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    td.all_gather_object(values, value)
    return values


def broadcast(value: T) -> T:
    """Rank 0's value, on all ranks, however long it takes to have it."""
    if world() == 1:
        return value
    values: list[Any] = [value if rank() == 0 else None]
    td.broadcast_object_list(values, src=0, group=_patient(td.group.WORLD))
    return cast(T, values[0])


def by_rank_zero(work: Callable[[], T]) -> T:
    """What ``work`` gives on rank 0, which alone does it, on all ranks, however long it takes.

    Raises on all ranks what it raises for bad input (ValueError); any other error on rank 0 alone.
    """
    if world() == 1:
        return work()
    found: tuple[Any, ValueError | None] = (None, None)
    if rank() == 0:
        try:
            found = (work(), None)
        except ValueError as error:
            found = (None, error)
    value, problem = broadcast(found)
    if problem is not None:
        raise problem
    return cast(T, value)


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Put the sum over all ranks in place of each gradient, bit for bit the same on all of them."""
    if world() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    whole = torch.cat([g.flatten() for g in gradients])  # one exchange
    td.all_reduce(whole)
    for gradient, part in zip(gradients, whole.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def meet() -> None:
    """Go on when all ranks are here, however long one of them takes."""
    if world() > 1:
        td.barrier(group=_patient(td.group.WORLD))


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Rank 0 goes through the block before the others: it builds what they find built. They leave together."""
    if rank() != 0:
        meet()
    yield
    if rank() == 0:
        meet()
    meet()


@lru_cache(maxsize=1)
def _patient(ranks: td.ProcessGroup | None) -> td.ProcessGroup:
    """All ``ranks`` once more, who must ask for it together, with the limit of ``PATIENCE``."""
    return cast(td.ProcessGroup, td.new_group(timeout=PATIENCE, backend="gloo"))


def any_rank(flag: bool) -> bool:
    """True on all ranks if it is true on one: decisions by the clock must be common ones."""
    return any(gather_objects(flag))


class Vote:
    """The highest of all ranks' numbers, known on all ranks at one step, a step late: no step waits for it.

    It goes from host to host: no device is asked.
    """

    def __init__(self) -> None:
        self._round: tuple[Any, Tensor] | None = None

    def highest(self, number: int) -> int:
        """Give this rank's number; the result of the call before, 0 at first. All ranks call it as often."""
        if world() == 1:
            return number
        result = self.close()
        mine = torch.tensor([number], dtype=torch.int32)
        self._round = (td.all_reduce(mine, td.ReduceOp.MAX, async_op=True), mine)
        return result

    def close(self) -> int:
        """Wait for the round under way; its result, 0 if there is none."""
        if self._round is None:
            return 0
        work, votes = self._round
        self._round = None
        work.wait()
        return int(votes.item())


def pick_device(name: str) -> torch.device:
    """``auto`` is this rank's GPU if there is one, else the CPU. Raises ValueError for a device that is absent."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(f"train.device is '{name}', but torch sees no GPU here")
    device = torch.device("cuda", _local_gpu(rank()))
    torch.cuda.set_device(device)
    return device


def _local_gpu(this: int) -> int:
    """The GPU of rank ``this``: nodes hold equally many ranks, a GPU each."""
    return int(os.environ.get("LOCAL_RANK", this)) % torch.cuda.device_count()


def _store_by_port(address: Path, this: int, ranks: int) -> td.Store:
    """Where torch cannot lock a file: a port of rank 0's that its system chose; the file ``address`` tells it."""
    if this == 0:
        store = td.TCPStore(socket.gethostname(), 0, ranks, True, TIMEOUT, wait_for_workers=False)
        write_text(address, f"{socket.gethostname()} {store.port}")
        return store
    end = time.monotonic() + TIMEOUT.total_seconds()
    while address.name not in os.listdir(address.parent):  # which makes a network file system look again
        if time.monotonic() > end:
            raise TimeoutError(f"{address} does not show: rank 0 has not begun, or this is another folder there")
        time.sleep(0.1)
    host, port = address.read_text(encoding="utf-8").split()
    return td.TCPStore(host, int(port), ranks, False, TIMEOUT)


@contextmanager
def process_group(folder: Path) -> Iterator[None]:
    """Join the other ranks of this job: submitit's tasks, or the processes that torchrun started.

    submitit's meet through a file in ``folder``, so no port can clash; torchrun brings its own meeting point.
    """
    store = None
    if "SUBMITIT_EXECUTOR" in os.environ:
        from submitit import JobEnvironment

        environment = JobEnvironment()
        attempt = os.environ.get("SLURM_RESTART_COUNT", "0")
        folder.mkdir(parents=True, exist_ok=True)
        place = (folder / f"ranks-{environment.job_id}-{attempt}").absolute()
        this, ranks = environment.global_rank, environment.num_tasks
        meeting_point: str | None = f"file://{place}"
        if ranks > 1 and not has_locks(folder):
            meeting_point, store = None, _store_by_port(place.with_suffix(".address"), this, ranks)
    else:
        meeting_point = "env://"
        this, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        yield
        return
    backend = "gloo"  # also for objects beside GPUs: no stall, and no need of a device
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(_local_gpu(this))  # before NCCL first speaks, or all ranks speak through GPU 0
    td.init_process_group(backend, meeting_point, TIMEOUT, rank=this, world_size=ranks, store=store)
    _patient(td.group.WORLD)  # while all are here
    try:
        yield
    finally:
        _patient.cache_clear()
        td.destroy_process_group()
