"""Fixtures that write and plan the small sweeps of ``tiny``; torch is loaded by the tests that use it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from benchmark.plan.plan import PlannedRun

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests share few cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """``--dist loadgroup`` starts tests that wait for SLURM first, and a file of them on one worker."""
    for item in items:
        if item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


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

    from benchmark.config.sweepfile import read_sweep
    from benchmark.plan.plan import make_plan, write_plan

    def plan(*grids: dict[str, Any], results: str = "results") -> list[PlannedRun]:
        path = write_sweep(*grids)
        sweep = read_sweep(path)
        runs = make_plan(sweep, tmp_path / results)
        write_plan(runs, sweep, tmp_path / results, f"python -m benchmark.sweep {path}")
        return runs

    return plan
