"""MoCo v3's training written down plainly from its paper (arXiv 2104.02057, algorithm 1) and the published recipe.

The network is the project's, so that both sides train the same one; loader, augmentation, loss, momentum update
and loop are torch's and torchvision's, as one writes them from the paper.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as tv

from benchmark.models.moco.objective import Moco
from benchmark.models.moco.views import GaussianBlur
from benchmark.pool.samples import Pool

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WARMUP_EPOCHS = 1


class TwoCrops(Dataset[tuple[Tensor, Tensor]]):
    """A pool's images, each as two random views."""

    def __init__(self, pool: Pool, image_size: int, blur_sigma_max: float) -> None:
        self.pool = pool
        self.views = [self._view(image_size, blur_sigma_max, *odds) for odds in ((1.0, 0.0), (0.1, 0.2))]

    @staticmethod
    def _view(image_size: int, blur_sigma_max: float, blur: float, solarize: float) -> tv.Compose:
        return tv.Compose(
            [
                tv.RandomResizedCrop(image_size, scale=(0.08, 1.0)),
                tv.RandomApply([tv.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
                tv.RandomGrayscale(p=0.2),
                tv.RandomApply([GaussianBlur(0.1, blur_sigma_max)], p=blur),
                tv.RandomSolarize(128, p=solarize),
                tv.RandomHorizontalFlip(),
                tv.ToTensor(),
                tv.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return self.pool.num_samples

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        image: Image.Image = self.pool.read(i).image
        return self.views[0](image), self.views[1](image)


def contrastive_loss(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    queries, keys = nn.functional.normalize(queries, dim=1), nn.functional.normalize(keys, dim=1)
    logits = queries @ keys.T / temperature
    labels = torch.arange(len(queries), device=queries.device)
    return nn.functional.cross_entropy(logits, labels) * 2 * temperature


def epoch_seconds(
    moco: Moco, pool: Pool, config: Any, device: torch.device, dtype: torch.dtype | None
) -> list[float]:
    """Train ``config.epochs`` epochs; seconds of each. ``config`` is a TrainConfig; ``dtype`` autocasts."""
    loader = DataLoader(
        TwoCrops(pool, moco.options.image_size, moco.options.blur_sigma_max),
        batch_size=config.batch_size,
        shuffle=True,
        num_workers=config.num_workers,
        pin_memory=device.type == "cuda",
        drop_last=True,
        persistent_workers=config.num_workers > 0,
    )
    moco.to(device).train()
    trained = [p for p in moco.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)
    seconds, temperature = [], moco.options.temperature
    for epoch in range(config.epochs):
        started = time.perf_counter()
        for step, views in enumerate(loader):
            now = epoch + step / len(loader)
            for group in optimizer.param_groups:
                group["lr"] = config.lr * _rate(now, config.epochs)
            momentum = 1 - (1 - moco.options.momentum) * 0.5 * (1 + math.cos(math.pi * now / config.epochs))
            first, second = (view.to(device, non_blocking=True) for view in views)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                q1, q2 = moco.predictor(moco.base(first)), moco.predictor(moco.base(second))
                with torch.no_grad():
                    for of_base, of_key in zip(
                        moco.base.parameters(), moco.momentum_encoder.parameters(), strict=True
                    ):
                        of_key.data = of_key.data * momentum + of_base.data * (1 - momentum)
                    k1, k2 = moco.momentum_encoder(first), moco.momentum_encoder(second)
                loss = contrastive_loss(q1, k2, temperature) + contrastive_loss(q2, k1, temperature)
            float(loss.item())  # the published loop meters every step's loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds


def _rate(epoch: float, epochs: int) -> float:
    if epoch < WARMUP_EPOCHS:
        return epoch / WARMUP_EPOCHS
    return 0.5 * (1 + math.cos(math.pi * (epoch - WARMUP_EPOCHS) / (epochs - WARMUP_EPOCHS)))
