"""Small runs that tests share: a tiny CLIP and a tiny MoCo on a few rendered shapes."""

from __future__ import annotations

from typing import Any

TINY_CLIP: dict[str, Any] = {
    "tiny": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
}
TINY_MOCO: dict[str, Any] = {
    "tiny": {
        "image_size": 8,
        "patch_size": 4,
        "width": 16,
        "depth": 1,
        "heads": 2,
        "hidden_dim": 32,
        "embed_dim": 16,
        "eval_crop": 1.0,
    }
}


def clip_grid(**changes: Any) -> dict[str, Any]:
    """One grid of a sweep: 3 epochs of 8 steps of 8 samples."""
    train = {"epochs": 3, "batch_size": 8, "lr": 1e-3, "log_every": 1, **changes.pop("train", {})}
    grid = {"framework": "clip", "model": TINY_CLIP, "pool": {"shapes": {"num_samples": 64}}, "pruner": "full"}
    return {**grid, "train": train, **changes}


def moco_grid(**changes: Any) -> dict[str, Any]:
    """One grid of a sweep: 2 epochs of 5 steps of 16 samples."""
    train = {"epochs": 2, "batch_size": 16, "lr": 1e-3, "log_every": 1, **changes.pop("train", {})}
    grid = {"framework": "moco", "model": TINY_MOCO, "pool": {"shapes": {"num_samples": 80}}, "pruner": "full"}
    return {**grid, "train": train, **changes}
