"""A GPU that is none: its tensors are computed on the CPU, and what would have the host wait for it is noted.

It is torch's one device that Python may define (``PrivateUse1``). A process keeps it for ever, so ``pretend``
belongs into a forked child (``rank_processes.on_ranks``). Autocast casts nothing there.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "pretended"
aten: Any = torch.ops.aten
VALUE_TO_HOST = (aten._local_scalar_dense, aten.item, aten.is_nonzero, aten.equal)
SHAPE_FROM_VALUES = (aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim, aten.bincount)
"""Operations that the host cannot go on without the result of."""


class OnGpu(Tensor):
    """``held``, which lies on the CPU, under the device's name."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        made: Any = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made  # type: ignore[no-any-return]

    def __repr__(self, **_: Any) -> str:
        return f"OnGpu({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on the pretended GPU outside of pretend()")


class Waits(TorchDispatchMode):
    """Computes what is asked of the device, and notes in ``calls`` what waits for it, and in which function."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.pinned: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        was_there = any(isinstance(t, OnGpu) for t in tensors)
        goes_there = torch.device(kwargs["device"]).type == NAME if kwargs.get("device") else was_there
        if was_there or goes_there:
            self._look_at(func.overloadpacket, args, kwargs, tensors, goes_there)
        out = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if goes_there:
            out = tree_map(lambda x: OnGpu(x) if isinstance(x, Tensor) and not isinstance(x, OnGpu) else x, out)
        return return_and_correct_aliasing(func, args, kwargs, out)

    def _look_at(self, op: Any, args: Any, kwargs: Any, tensors: list[Tensor], goes_there: bool) -> None:
        if op in (aten._to_copy, aten.copy_):
            source, target_is_gpu = (args[0], goes_there) if op is aten._to_copy else (args[1], is_gpu(args[0]))
            non_blocking = kwargs.get("non_blocking") or (op is aten.copy_ and len(args) > 2 and args[2])
            is_free = non_blocking and (is_gpu(source) or self.is_pinned(source))
            if is_gpu(source) != target_is_gpu and not is_free:
                self.note(f"copy to the {'device' if target_is_gpu else 'host'}")
        elif op in (*VALUE_TO_HOST, *SHAPE_FROM_VALUES):
            self.note(str(op))
        elif op in (aten.index, aten.index_put_) and any(
            isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        ):
            self.note(f"{op} by a mask")
        elif any(not is_gpu(t) and t.dim() for t in tensors):
            self.note(f"{op} of a tensor of the host")

    def note(self, what: str) -> None:
        frames = [f for f in traceback.extract_stack() if "/benchmark/" in f.filename]
        self.calls.append(f"{what}, {frames[-1].name}" if frames else what)

    def pin(self, tensor: Tensor, *_: Any) -> Tensor:
        pinned = tensor.clone()
        self.pinned[pinned.untyped_storage().data_ptr()] = pinned  # kept, so that no other gets its address
        return pinned

    def is_pinned(self, tensor: Tensor, *_: Any) -> bool:
        return not is_gpu(tensor) and tensor.untyped_storage().data_ptr() in self.pinned


class _Backend(_DummyBackendModule):  # type: ignore[misc]
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def is_gpu(tensor: Any) -> bool:
    return isinstance(tensor, OnGpu)


def _held(x: Any) -> Any:
    if isinstance(x, OnGpu):
        return x.held
    return torch.device("cpu") if isinstance(x, torch.device) else x


@contextmanager
def pretend() -> Iterator[tuple[torch.device, Waits]]:
    """The device, and what has waited for it. What it changes in torch stays changed in this process."""
    waits = Waits()
    _setup_privateuseone_for_python_backend(rename=NAME, backend_module=_Backend())
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    Tensor.pin_memory, Tensor.is_pinned = (  # type: ignore[method-assign]
        lambda self, *_: waits.pin(self),
        lambda self, *_: waits.is_pinned(self),
    )
    casts = torch.library.Library("_", "IMPL")
    casts.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")

    def empty(size: Any, stride: Any, dtype: Any = None, **_: Any) -> Tensor:
        return OnGpu(torch.empty_strided(size, stride, dtype=dtype))

    def filled(source: Tensor, target: OnGpu, non_blocking: bool = False) -> Tensor:
        waits.note("torch.tensor on the device")
        target.held.copy_(source)
        return target

    numbers = torch.library.Library("aten", "IMPL")  # torch.tensor(…, device) passes no dispatch mode
    numbers.impl("empty_strided", empty, "PrivateUse1")
    numbers.impl("_copy_from", filled, "PrivateUse1")
    with torch.autograd.set_multithreading_enabled(False), waits:
        yield torch.device(NAME, 0), waits
