"""What a run asks of its device: data that it is sent without anybody waiting, and how its kernels compute."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from benchmark.config.run import TrainConfig

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on ``device``, which fetches it from pinned memory when its work comes to it."""
    if device.type == "cpu":
        return tensor
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


@contextmanager
def kernels(config: TrainConfig) -> Iterator[None]:
    """What ``tf32`` and ``deterministic`` ask of torch, for the time of a training; all of it process-wide."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    was_strict, only_warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    workspace = os.environ.get(WORKSPACE)
    before = products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark, convolutions.deterministic
    try:
        products.allow_tf32 = convolutions.allow_tf32 = config.tf32
        convolutions.benchmark, convolutions.deterministic = not config.deterministic, config.deterministic
        if config.deterministic:
            os.environ[WORKSPACE] = ":4096:8"  # cuBLAS is deterministic with workspaces of its own alone
            torch.use_deterministic_algorithms(True)
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark, convolutions.deterministic = before
        torch.use_deterministic_algorithms(was_strict, warn_only=only_warned)
        if workspace is None:
            os.environ.pop(WORKSPACE, None)
        else:
            os.environ[WORKSPACE] = workspace
