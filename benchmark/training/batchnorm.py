"""Batch normalisation over ranks: a module goes in, its layers come out normalising by the global batch.

``RankBatchNorm`` does it on any device. On a GPU layers of images take torch's own, which is faster, but has the
host wait for the device at every call, and refuses tensors on the CPU.
Letters in shapes: b samples on this rank, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark import dist

OF_IMAGES = (nn.BatchNorm2d, nn.BatchNorm3d)


class RankBatchNorm(_BatchNorm):
    """Normalises [b, C] or [b, C, ...] by mean and variance over all ranks, which hold equally many values.

    Gradients flow through the exchange; every rank computes the same running statistics, bit for bit.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch normalisation wants [b, C] or more dimensions, got {list(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        x = input.float()  # statistics in float32 whatever the features' precision
        rest = [d for d in range(x.dim()) if d != 1]
        # mean and variance of each rank, joined: sums of x and x*x would cancel where the mean is large
        local_var, local_mean = torch.var_mean(x, dim=rest, correction=0)
        of_ranks = dist.gather_with_gradient(torch.stack([local_mean, local_var])[None])  # [world, 2, C]
        means, variances = of_ranks.unbind(dim=1)
        mean = means.mean(dim=0)
        var = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
        self._track(mean.detach(), var.detach(), x.numel() // x.shape[1] * len(means))
        column = (1, -1, *[1] * (x.dim() - 2))
        y = (x - mean.view(column)) * torch.rsqrt(var + self.eps).view(column)
        if self.affine:
            y = y * self.weight.view(column) + self.bias.view(column)
        return y.to(input.dtype)

    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics as torch does: by ``momentum``, or to the mean of all batches if None."""
        if not self.track_running_stats:
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var * (count / (count - 1)), share)  # without bias, as torch


def over_ranks(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch normalisation in ``module``; parameters, buffers and state keys stay the same.

    Raises ValueError for a kind of batch normalisation that has no form over several CPU ranks.
    """
    # DEVIATION(batch_norm): over all ranks, so that no result depends on their number; the published CLIP runs
    # normalise on each GPU by itself (open_clip's --use-bn-sync is off), its MoCo runs as here
    on_gpu = device.type == "cuda"
    if isinstance(module, _BatchNorm) and type(module) in (nn.BatchNorm1d, *(() if on_gpu else OF_IMAGES)):
        return _replacement(module)
    if isinstance(module, _BatchNorm) and not isinstance(module, RankBatchNorm):
        if on_gpu:
            from timm.layers import convert_sync_batchnorm  # torch's would drop activations in timm's own layers

            return convert_sync_batchnorm(module)
        raise ValueError(f"{type(module).__name__} over several CPU ranks: run on one rank, or with launch.gpus")
    for name, child in module.named_children():
        setattr(module, name, over_ranks(child, device))
    return module


def _replacement(layer: _BatchNorm) -> RankBatchNorm:
    new = RankBatchNorm(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats, device="meta"
    )
    for name, value in [*layer.named_parameters(), *layer.named_buffers()]:
        setattr(new, name, value)
    return new.train(layer.training)
