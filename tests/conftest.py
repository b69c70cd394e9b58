"""Fixtures that write and plan the small sweeps of ``tiny``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests share few cores

import pytest
import torch
import yaml

from benchmark.config.sweepfile import read_sweep
from benchmark.plan.plan import PlannedRun, make_plan, write_plan


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
