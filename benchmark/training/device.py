"""What a run asks of its device: data that it is sent without anybody waiting, and how its kernels compute."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on ``device``, which fetches it from pinned memory when its work comes to it."""
    if device.type == "cpu":
        return tensor
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)
