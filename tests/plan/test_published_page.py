"""The page of published settings says what the paper's sweep does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from benchmark.config import published
from benchmark.config.run import TrainConfig
from benchmark.config.sweepfile import Grid, read_sweep
from benchmark.models.moco.options import model_options
from benchmark.pruner import make_pruner

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "published.md").read_text(encoding="utf-8")
SECTIONS = {"clip": "CLIP", "moco": "MoCo v3"}


def rows(framework: str) -> dict[str, tuple[str, set[str]]]:
    """option -> what is published, and the values here without their remarks."""
    (section,) = re.findall(rf"^## {SECTIONS[framework]}\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0] not in ("option", "---"):
            here = {re.sub(r" \(.*\)", "", value) for value in cells[2].split(", ")}
            found[cells[0].strip("`")] = (cells[1], here)
    return found


def word(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def values(prefix: str, built: list[Any]) -> dict[str, set[str]]:
    """Option -> its values, of those that change numbers."""
    fields = [f for f in dataclasses.fields(built[0]) if f.init and f.metadata.get("identity", True)]
    return {f"{prefix}.{f.name}": {word(getattr(one, f.name)) for one in built} for f in fields}


def grids(framework: str, *, arm: bool) -> list[Grid]:
    sweep = read_sweep(ROOT / "sweeps" / "paper_main.yaml")
    return [grid for grid in sweep.grids if grid.framework == framework and grid.published == arm]


@pytest.mark.parametrize("framework", SECTIONS)
def test_the_page_has_every_setting_of_the_papers_sweep_with_its_value(framework: str) -> None:
    ours = grids(framework, arm=False)
    scans = [make_pruner(choice, "") for grid in ours for choice in grid.pruners if choice.name == "scan"]
    expected = values("train", [grid.train for grid in ours]) | values("scan", scans)
    if framework == "moco":
        expected |= values("model", [model_options(model, "") for grid in ours for model in grid.models])
    expected["seed"] = {str(seed) for grid in ours for seed in grid.seeds}
    expected["GPUs"] = {str(grid.launch.gpus * grid.launch.nodes) for grid in ours}
    assert {option: here for option, (_, here) in rows(framework).items()} == expected


@pytest.mark.parametrize("framework", SECTIONS)
def test_the_page_marks_what_the_published_arm_sets(framework: str) -> None:
    marked = {option for option, (theirs, _) in rows(framework).items() if "*arm*" in theirs}
    arm = {f"train.{name}" for name in published.TRAIN[framework]}
    assert marked == arm | {f"scan.{name}" for name in published.SCAN[framework]}


@pytest.mark.parametrize("framework", SECTIONS)
def test_the_sweep_runs_full_data_and_scan_of_every_configuration_both_ways(framework: str) -> None:
    def configurations(arm: bool) -> set[tuple[str, str, str]]:
        return {
            (model.name, str(pool.options.get("name", pool.name)), choice.name)
            for grid in grids(framework, arm=arm)
            for model in grid.models
            for pool in grid.pools
            for choice in grid.pruners
            if choice.name in ("full", "scan")
        }

    assert configurations(True) == configurations(False)
    names = {f.name for f in dataclasses.fields(TrainConfig)} - set(published.TRAIN[framework])

    def settings(arm: bool) -> list[dict[str, Any]]:
        return [{name: getattr(grid.train, name) for name in names} for grid in grids(framework, arm=arm)]

    assert settings(True) == settings(False)
