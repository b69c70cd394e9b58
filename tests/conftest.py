"""Small runs that tests share: a tiny CLIP on a few rendered shapes, a tiny MoCo on digits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests share few cores

import pytest
import torch
import yaml

from benchmark.plan import PlannedRun, make_plan, write_plan
from benchmark.sweepfile import read_sweep

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
    train = {"epochs": 2, "batch_size": 256, "lr": 1e-3, "log_every": 1, **changes.pop("train", {})}
    grid = {"framework": "moco", "model": TINY_MOCO, "pool": {"digits": {"image_size": 8}}, "pruner": "full"}
    return {**grid, "train": train, **changes}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def write_sweep(tmp_path: Path) -> Callable[..., Path]:
    """Write a sweep file of the given grids; returns its path."""

    def write(*grids: dict[str, Any], name: str = "tiny") -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"name": name, "grid": list(grids)}))
        return path

    return write


@pytest.fixture
def planned(write_sweep: Callable[..., Path], tmp_path: Path) -> Callable[..., list[PlannedRun]]:
    """Plan the given grids and write the runs' folders under ``results``."""

    def plan(*grids: dict[str, Any], results: str = "results") -> list[PlannedRun]:
        path = write_sweep(*grids)
        sweep = read_sweep(path)
        runs = make_plan(sweep, tmp_path / results)
        write_plan(runs, sweep, tmp_path / results, f"python -m benchmark.sweep {path}")
        return runs

    return plan
