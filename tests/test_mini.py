"""The mini paper: its settings follow from records of full data by the rule that its sweep states."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.scan import Scan
from benchmark.config.run import Choice, RunConfig
from benchmark.config.sweepfile import Grid, read_sweep
from benchmark.models.clip import objective as clip
from benchmark.plan.plan import make_plan
from benchmark.pool.samples import PoolView
from benchmark.runs.record import read_record

SWEEPS = Path("sweeps")
MAIN = read_sweep(SWEEPS / "mini_main.yaml")
TUNED = [read_record(path) for path in sorted(Path("results/mini_tuning").glob("*/record.json"))]
FIRST = {5e-4, 1e-3, 2e-3}
RATES = {"clip": FIRST, "moco": FIRST | {4e-3, 8e-3}}
TIE = 1.01
"""Losses this close to the lowest are equal; the smallest rate is taken."""


def grids(framework: str) -> list[Grid]:
    return [grid for grid in MAIN.grids if grid.framework == framework]


def rates_of(grid: Grid) -> set[float]:
    """What had been tried when the grid ran: seeds 0 to 2 of the small MoCo model came before the larger rates."""
    is_first = grid.models[0].name == "mini-vit_small" and list(grid.seeds) == [0, 1, 2]
    return FIRST if is_first else RATES[grid.framework]


def chosen(framework: str, rates: set[float]) -> dict[str, Any]:
    """The record that the rule in mini_tuning.yaml takes."""
    of_framework = [record for record in TUNED if record["framework"] == framework]
    assert {record["config"]["train"]["lr"] for record in of_framework} == RATES[framework]
    tried = [record for record in of_framework if record["config"]["train"]["lr"] in rates]
    assert {(record["method"], record["seed"]) for record in tried} == {("full", 1000)}
    lowest = min(record["training"]["final_loss"] for record in tried)
    equal = [record for record in tried if record["training"]["final_loss"] <= TIE * lowest]
    return min(equal, key=lambda record: record["config"]["train"]["lr"])


@pytest.mark.parametrize("framework", ["clip", "moco"])
def test_every_run_trains_as_the_rule_chose_on_full_data(framework: str) -> None:
    for grid in grids(framework):
        record = chosen(framework, rates_of(grid))
        trained = dataclasses.asdict(grid.train)
        told = {key: trained[key] for key in ("epochs", "batch_size", "lr", "warmup_epochs", "weight_decay")}
        assert told == {key: record["config"]["train"][key] for key in told}


@pytest.mark.parametrize(("framework", "keep"), [("clip", 0.78), ("moco", 0.73)])
def test_static_methods_keep_what_scan_would_see_by_the_losses_of_full_data(framework: str, keep: float) -> None:
    """SCAN's schedule on the full-data losses, every candidate share taken as published."""
    (options,) = [p.options for grid in grids(framework) for p in grid.pruners if p.name == "scan"][:1]
    assert scan_sees(Scan(**options), chosen(framework, RATES[framework])) == pytest.approx(keep, abs=0.01)
    fixed = [p for grid in grids(framework) for p in grid.pruners if "keep_fraction" in p.options]
    assert {p.name for p in fixed} == {"random_subset", "random_dynamic", "semdedup", "density"}
    assert {p.options["keep_fraction"] for p in fixed} == {keep}


def scan_sees(scan: Scan, record: dict[str, Any]) -> float:
    """The share of samples left where both directions agree: the two losses of a sample are one."""
    count = 1000
    view = PoolView(count, "of no pool")
    epochs = [row["loss"] for row in record["training"]["by_epoch"]]
    scan.setup(view, num_epochs=len(epochs), seed=0)
    seen = 0
    spread = np.linspace(-1e-3, 1e-3, count, dtype=np.float32)
    for epoch, loss in enumerate(epochs):
        plan = scan.plan(epoch)
        seen += int(plan.keep.sum())
        if plan.observe:
            scan.observe(np.arange(count), np.repeat((loss + spread)[:, None], 2, axis=1))
        scan.end_epoch(epoch)
    return seen / (count * len(epochs))


def test_the_plan_is_the_papers_sixteen_configurations_with_three_seeds_and_more_for_three(tmp_path: Path) -> None:
    runs = [run.config for run in make_plan(MAIN, tmp_path) if isinstance(run.config, RunConfig)]
    cells: dict[tuple[str, str], dict[str, set[int]]] = {}
    for run in runs:
        of_cell = cells.setdefault((run.model.name, run.pool_label), {})
        of_cell.setdefault(run.pruner.name, set()).add(run.seed)
    methods = {
        "full",
        "scan",
        "scan_random",
        "random_subset",
        "random_dynamic",
        "semdedup",
        "density",
        "infobatch",
    }
    assert len(cells) == 16
    eight = {
        ("mini-ViT-S-8", "emoji-clipart"),
        ("mini-RN50", "emoji-clipart"),
        ("mini-vit_small", "fashion_mnist-6000"),
    }
    for cell, seeds in cells.items():
        assert seeds == {name: set(range(8 if cell in eight else 3)) for name in methods}


def test_full_data_of_equal_compute_differs_from_the_main_sweeps_in_its_length_alone(tmp_path: Path) -> None:
    def told(run: Any) -> tuple[Any, ...]:
        return run.config.model, run.config.pool, dataclasses.replace(run.config.train, epochs=1)

    main = [told(run) for run in make_plan(MAIN, tmp_path) if "-full-" in run.config.name]
    runs = make_plan(read_sweep(SWEEPS / "mini_equal_compute.yaml"), tmp_path)
    assert len(runs) == 15
    assert {(run.config.method, run.config.train.epochs) for run in runs} == {("full", 12)}
    assert all(told(run) in main for run in runs)


@pytest.mark.parametrize("model", [m for grid in grids("clip") for m in grid.models], ids=lambda model: model.name)
def test_every_clip_model_takes_a_step_and_encodes(model: Choice) -> None:
    objective = clip.make(model, 0)
    size = objective.transform.size[0]
    images = torch.randint(0, 256, (4, size, size, 3), dtype=torch.uint8)
    losses = objective((images, torch.randint(1, 40_000, (4, 16))))
    losses.mean().backward()
    assert losses.shape == (4, 2)
    assert torch.isfinite(losses).all()
    assert all(p.grad is not None for p in objective.model.visual.parameters())


def test_every_figure_of_the_record_is_of_the_plan() -> None:
    planned = json.loads(Path("results/mini_tuning/plan.json").read_text(encoding="utf-8"))
    assert {row["run"] for row in planned["runs"]} == {record["run"] for record in TUNED}
