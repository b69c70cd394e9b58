"""A file imports only from what stands above it: the order of the rooms, held by a test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ORDER = [
    "files",
    "seeds",
    "options",
    "config",
    "schema",
    "record",
    "predictions",
    "pruned",
    "slurmjob",
    "signals",
    "attempts",
    "featureconfig",
    "plugins",
    "clusters",
    "sweepfile",
    "lease",
    "dist",
    "snapshot",
    "provenance",
    "syncbn",
    "pool",
    "image_cache",
    "storage",
    "sources",
    "preparing",
    "prepare",
    "poolinspect",
    "poolcli",
    "pruner",
    "coreset",
    "coresetcli",
    "tower",
    "evaluate",
    "objective",
    "order",
    "data",
    "faults",
    "weights",
    "clip_encoder",
    "small_towers",
    "clip",
    "moco_options",
    "moco_vit",
    "moco_augment",
    "moco",
    "frameworks",
    "optim",
    "checkpoint",
    "log",
    "truth",
    "visits",
    "trackers",
    "gallery",
    "summaries",
    "progress",
    "super_batch",
    "train",
    "state",
    "peers",
    "requeue",
    "features",
    "evaluation",
    "job",
    "references",
    "featureplan",
    "plan",
    "slurmcall",
    "submissions",
    "queued",
    "standing",
    "status",
    "estimate",
    "cancel",
    "slots",
    "launch",
    "clusterfacts",
    "sbatch",
    "slurm",
    "task",
    "probe",
    "doctor",
    "listing",
    "sweep",
    "evaluatecli",
    "resolution",
]
"""Rooms of ``benchmark/``, lowest first."""

BASELINES_MAY = {"benchmark.pruner", "benchmark.pool", "benchmark.options", "benchmark.coreset"}
"""The interface, what it hands to a method, checks of options, and what other runs leave."""

ANALYSIS_MAY = {f"benchmark.{name}" for name in ("config", "record", "predictions", "pruned", "files", "options")}


def imported(path: Path) -> set[str]:
    """Modules of this project that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module == "benchmark"
            found |= {f"benchmark.{alias.name}" for alias in node.names} if whole else {node.module}
    return {name for name in found if name.split(".")[0] in ("benchmark", "baselines", "analysis")}


def room(path: Path) -> str:
    return path.relative_to(ROOT / "benchmark").parts[0].removesuffix(".py")


BENCHMARK = [p for p in sorted((ROOT / "benchmark").rglob("*.py")) if p != ROOT / "benchmark" / "__init__.py"]


@pytest.mark.parametrize("path", BENCHMARK, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_from_rooms_below(path: Path) -> None:
    here = ORDER.index(room(path))
    for name in imported(path):
        parts = name.split(".")
        assert parts[0] == "benchmark", f"{path} imports {name}"
        if len(parts) > 1:
            there = ORDER.index(parts[1])
            assert there < here or parts[1] == room(path), f"{path} imports {name}, which stands above it"


@pytest.mark.parametrize("path", sorted((ROOT / "baselines").glob("*.py")), ids=lambda p: p.name)
def test_methods_import_the_pruning_interface_alone(path: Path) -> None:
    assert {n for n in imported(path) if not n.startswith("baselines")} <= BASELINES_MAY


@pytest.mark.parametrize("path", sorted((ROOT / "analysis").glob("*.py")), ids=lambda p: p.name)
def test_the_report_reads_records_and_knows_no_training(path: Path) -> None:
    assert {n for n in imported(path) if not n.startswith("analysis")} <= ANALYSIS_MAY
