"""The optimiser, and the learning rate as a pure function of progress: no mask bends a schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from benchmark.config.run import TrainConfig
from benchmark.models.objective import Objective


def make_optimizer(objective: Objective, config: TrainConfig) -> Optimizer:
    """AdamW or LARS over the objective's trained parameters; the objective says which take weight decay."""
    decayed, exempt = objective.decay_groups()
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "lars":
        from benchmark.training.lars import Lars  # timm takes seconds to load

        return Lars(groups, lr=peak_lr(config), momentum=0.9)
    return AdamW(groups, lr=peak_lr(config), betas=(config.beta1, config.beta2), eps=config.epsilon, fused=True)


def peak_lr(config: TrainConfig) -> float:
    """The largest rate, with linear scaling by batch size where ``lr_reference_batch`` asks for it."""
    return config.lr * (config.batch_size / config.lr_reference_batch if config.lr_reference_batch else 1.0)


def learning_rate(config: TrainConfig, *, epoch: int, step: int, steps: int, full_steps: int) -> float:
    """Linear warm-up, then half a cosine to 0.

    ``step`` of ``steps`` in this epoch; ``full_steps`` are the steps of an epoch without pruning. On full
    data this is open_clip's schedule exactly. ``lr_clock: reference`` is the published code's count, which
    takes every earlier epoch to be as long as this one.
    """
    warmup = config.warmup_epochs or config.warmup_steps / full_steps  # epochs
    # DEVIATION(lr_clock): fractional epochs, so that no mask bends the schedule; the published CLIP code counts
    # steps of the present epoch's length, so that its rate jumps and ends where the end of warm-up decides
    if config.lr_clock == "reference":
        now, tick = (steps * epoch + step) / full_steps, 1 / full_steps
    else:
        now, tick = epoch + step / steps, 1 / steps
    if config.warmup_from_zero:
        tick = 0.0
    # DEVIATION(warmup_from_zero): the first step has one step's part of the peak, as open_clip's; MoCo v3's has 0
    if now < warmup:
        return peak_lr(config) * min(1.0, (now + tick) / warmup)
    share = (now - warmup) / max(config.epochs - warmup, 1e-12)
    return peak_lr(config) * 0.5 * (1 + math.cos(math.pi * share))


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def load_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Take over a state; what belongs to a weight lies in memory as the weight does, as fused kernels assume."""
    optimizer.load_state_dict(state)
    for weight, held in optimizer.state.items():
        for name, value in held.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                held[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def clip_gradient(objective: torch.nn.Module, max_norm: float | None) -> None:
    """Scale the whole gradient down to ``max_norm``; None leaves it alone."""
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(objective.parameters(), max_norm)
