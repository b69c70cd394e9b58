"""The linear probe of MoCo v3 (its ``main_lincls.py``): SGD on a frozen backbone under augmentation.

Letters in shapes: b images in a batch, d feature width, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark import dist
from benchmark.evaluate.means import Means
from benchmark.evaluate.probes.batches import Batches
from benchmark.evaluate.saved import Saved
from benchmark.models.encoder import ImageTransform, Tower

EPOCHS = 90
BATCH_SIZE = 1024
TRANSFORMER_RATE, RESNET_RATE = 3.0, 0.1
"""For 256 images; scaled by the batch size."""
MOMENTUM = 0.9
HEAD_DEVIATION = 0.01


class FrozenWithHead(nn.Module):
    """Images [b, 3, H, W] -> logits [b, C]; the tower stays in eval mode and gets no gradient."""

    def __init__(self, tower: nn.Module, num_classes: int, example: Tensor, random: torch.Generator) -> None:
        super().__init__()
        self.tower = tower.requires_grad_(False).eval()
        with torch.no_grad():
            width = self.tower(example).shape[1]
        # made without nn.Linear's draws from the global generator
        self.weight = nn.Parameter(torch.empty(num_classes, width).normal_(0, HEAD_DEVIATION, generator=random))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def train(self, mode: bool = True) -> FrozenWithHead:
        super().train(mode)
        self.tower.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.tower(images)
        return functional.linear(features, self.weight, self.bias)


def augmentation(tower: Tower, flip: bool) -> ImageTransform:
    """A random crop of 0.08 to 1 of the area, and a flip."""
    from torchvision import transforms as tv  # seconds to load: not when a sweep is planned

    return tv.Compose(
        [
            tv.RandomResizedCrop(tower.image_size),
            tv.RandomHorizontalFlip(p=0.5 if flip else 0.0),
            tv.ToTensor(),
            tv.Normalize(tower.mean, tower.std),
        ]
    )


def rate_at(epoch: int, epochs: int, peak: float) -> float:
    """Half a cosine, an epoch a stair."""
    return peak * 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def fit(
    tower: Tower,
    batches: Batches,
    num_classes: int,
    *,
    epochs: int,
    base_rate: float | None,
    means: Means | None = None,
    of: Mapping[str, Any] | None = None,
) -> FrozenWithHead:
    """The head after the last epoch, on the tower. What ``of`` names goes on from where ``means`` keep it."""
    if base_rate is None:
        base_rate = TRANSFORMER_RATE if tower.is_transformer else RESNET_RATE
    device = next(tower.module.parameters()).device
    random = torch.Generator().manual_seed(batches.seed)
    example = torch.zeros(1, 3, *tower.image_size, device=device)
    model = FrozenWithHead(tower.module, num_classes, example, random).to(device)
    peak = base_rate * batches.batch_size / 256
    head = nn.ParameterDict({"weight": model.weight, "bias": model.bias})
    optimizer = torch.optim.SGD(head.values(), lr=peak, momentum=MOMENTUM, weight_decay=0.0)
    saved = Saved(means or Means(), of or {}, {"head": head, "optimizer": optimizer})
    for batch in batches.run(epochs, saved.load()):
        optimizer.param_groups[0]["lr"] = rate_at(batch.epoch, epochs, peak)
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(batch.images.to(device)), batch.labels.to(device))
        (loss * batch.weight).backward()
        dist.sum_gradients(head.values())
        optimizer.step()
        saved.after(batch.epoch, batch.step, batch.asked)
    saved.save()
    return model
