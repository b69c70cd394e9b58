"""Published hyper-parameters of fine-tuning, a table, and their learning rate at any step."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an image tower is trained with a head."""

    epochs: int
    batch_size: int
    lr: float
    lr_reference_batch: int | None
    """The rate is scaled by batch size / this; None leaves it."""
    weight_decay: float
    warmup_steps: int = 0
    """A rise in steps, then a cosine in steps to 0."""
    warmup_epochs: int = 0
    """A rise from ``FIRST_LR`` and a cosine to ``LAST_LR`` in stairs of an epoch, where ``by_epoch``."""
    by_epoch: bool = False
    clip_norm: float | None = None
    smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    random_erasing: float = 0.0
    drop_path: float = 0.0
    rand_augment: bool = False
    """DeiT's augmentation; else the framework's own."""
    repeats: int = 1
    zero_shot_head: bool = False
    """Start from the zero-shot classifier, on cosines; else from a fresh linear layer."""
    exempt_vectors: bool = False
    """No weight decay of vectors, positions and class tokens."""


FIRST_LR, LAST_LR = 1e-6, 1e-5

WISE_FT = Recipe(
    # arXiv 2109.01903, section 4 and appendix; mlfoundations/wise-ft finetune.py: AdamW's defaults, gradients
    # clipped to norm 1, decay of everything
    epochs=10,
    batch_size=512,
    lr=3e-5,
    lr_reference_batch=None,
    weight_decay=0.1,
    warmup_steps=500,
    clip_norm=1.0,
    zero_shot_head=True,
)
DEIT_TRANSFER = Recipe(
    # facebookresearch/moco-v3 transfer/README.md (CIFAR-10); what it does not say is DeiT's main.py
    epochs=100,
    batch_size=128,
    lr=3e-4,
    lr_reference_batch=512,
    weight_decay=0.1,
    warmup_epochs=3,
    by_epoch=True,
    smoothing=0.1,
    mixup=0.8,
    cutmix=1.0,
    drop_path=0.1,
    rand_augment=True,
    exempt_vectors=True,
)
DEIT_IMAGENET = Recipe(
    # facebookresearch/moco-v3 README.md: DeiT's defaults, 150 epochs for ViT-B; batch of arXiv 2012.12877, table 9
    epochs=150,
    batch_size=1024,
    lr=5e-4,
    lr_reference_batch=512,
    weight_decay=0.05,
    warmup_epochs=5,
    by_epoch=True,
    smoothing=0.1,
    mixup=0.8,
    cutmix=1.0,
    random_erasing=0.25,
    drop_path=0.1,
    rand_augment=True,
    repeats=3,
    exempt_vectors=True,
)
RECIPES = {"wise_ft": WISE_FT, "deit_transfer": DEIT_TRANSFER, "deit_imagenet": DEIT_IMAGENET}


def rate_at(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """The learning rate at a step of an epoch of so many steps."""
    peak = recipe.lr * (recipe.batch_size / recipe.lr_reference_batch if recipe.lr_reference_batch else 1.0)
    if recipe.by_epoch:  # timm's cosine, asked at each epoch's beginning
        if epoch < recipe.warmup_epochs:
            return FIRST_LR + epoch * (peak - FIRST_LR) / recipe.warmup_epochs
        return LAST_LR + 0.5 * (peak - LAST_LR) * (1 + math.cos(math.pi * epoch / recipe.epochs))
    now, last = epoch * steps + step, recipe.epochs * steps
    if now < recipe.warmup_steps:
        return peak * (now + 1) / recipe.warmup_steps
    return 0.5 * peak * (1 + math.cos(math.pi * (now - recipe.warmup_steps) / (last - recipe.warmup_steps)))
