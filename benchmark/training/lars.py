"""LARS that leaves a step out on the device: under a gradient scaler no host has to know whether it does."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import Lars as TimmLars
from torch import Tensor


class Lars(TimmLars):
    """timm's; a gradient that is not finite under fp16's scaler leaves weights and momentum as they were."""

    _step_supports_amp_scaling = True  # torch's GradScaler then sets found_inf, and asks for no number
    found_inf: Tensor | None = None
    """float32, 1 where this step is to be left out; None without a scaler."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step. The gradient is unscaled already."""
        if self.found_inf is None:
            return super().step(closure)
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = [p.clone() for p in params]
        momenta = [self.state[p].get("momentum_buffer") for p in params]
        momenta = [torch.zeros_like(p) if m is None else m.clone() for p, m in zip(params, momenta, strict=True)]
        loss = super().step(closure)
        for p, weights, momentum in zip(params, before, momenta, strict=True):
            p.copy_(torch.where(self.found_inf > 0, weights, p))
            buffer = self.state[p]["momentum_buffer"]
            buffer.copy_(torch.where(self.found_inf > 0, momentum, buffer))
        return loss
