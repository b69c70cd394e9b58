"""The rooms of the house: what a room may import, by layer. CONTRIBUTING.md has the same as a table."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
GROUND = "files seeds options dist signals states"
MAY = {
    **dict.fromkeys(GROUND.split(), ""),
    "dist": "files",
    "plugins": "options",
    "slurm": "",
    "config": f"plugins {GROUND}",
    "runs": f"config slurm plugins {GROUND}",
    "pool": f"config plugins {GROUND}",
    "pruner": f"pool config plugins {GROUND}",
    "contract": f"pruner pool config plugins {GROUND}",
    "coreset": f"pruner pool config runs {GROUND}",
    "models": f"pool config runs.folder {GROUND}",
    "evaluate": f"models pool config runs plugins {GROUND}",
    "export": f"evaluate models pool config runs plugins {GROUND}",
    "tracking": f"pruner pool coreset runs {GROUND}",
    "training": f"tracking models pruner pool config runs coreset {GROUND}",
    "job": f"training tracking evaluate coreset models pruner pool runs config slurm plugins {GROUND}",
    "plan": f"training.order evaluate models pruner pool runs config plugins {GROUND}",
    "status": f"plan runs slurm config {GROUND}",
    "launch": f"status plan job evaluate runs slurm config {GROUND}",
    "rehearsal": f"launch status plan job models evaluate pruner pool runs slurm config {GROUND}",
    "doctor": f"launch.script launch.sbatch launch.slots slurm config runs {GROUND}",
    "catalogue": "plugins pruner pool evaluate",
    "loop": f"training.order training.super_batch pruner pool {GROUND}",
    "sweep": f"catalogue contract doctor rehearsal launch status plan config runs slurm plugins {GROUND}",
}
"""What each room of ``benchmark/`` may import of the others, in the order in which data goes through them; of some
rooms one file alone."""
ANALYSIS = ["read", "blocks", "tables", "claims", "figures", "page", "pruned", "power", "report", "contrasts"]
"""Rooms of ``analysis/``: each imports to its left alone."""
PEERS = [{"claims", "figures"}, {"page", "pruned"}]
"""Rooms side by side."""
OTHERS = {
    "baselines": {"benchmark.pruner", "benchmark.pool", "benchmark.options", "benchmark.coreset", "baselines"},
    "analysis": {"benchmark.runs", "benchmark.config", "benchmark.options", "benchmark.files", "analysis"},
}
BY_NAME = re.compile(r"\bimport_module\(|\b__import__\(")


class Import(NamedTuple):
    path: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def imports(folder: str) -> Iterator[Import]:
    """Every import of our own below a folder, also those inside functions; names of a package are told in full."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: a relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (
                Import(path, node.lineno, name)
                for name in names
                if name.split(".")[0] in ("benchmark", "baselines", "analysis", "perf", "tests")
            )


def room(module: str) -> str:
    return f"{module}.".split(".")[1]


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[1]


def test_a_room_of_benchmark_imports_only_what_stands_before_it() -> None:
    wrong = []
    for one in imports("benchmark"):
        own = room_of(one.path)
        if own == "__init__":
            continue
        allowed = {own, *MAY[own].split()}
        parts = (one.module + "..").split(".")
        if parts[0] != "benchmark" or not {parts[1], f"{parts[1]}.{parts[2]}"} & allowed:
            wrong.append(f"{one}; {own} may import {', '.join(sorted(allowed - {own})) or 'nothing of ours'}")
    assert not wrong, "\n".join(wrong)


def test_every_room_has_its_line_and_the_lines_have_no_circle() -> None:
    found = {room_of(path) for path in (ROOT / "benchmark").rglob("*.py")} - {"__init__"}
    assert found == set(MAY)
    known: set[str] = set()
    for name, others in MAY.items():
        assert {other.split(".")[0] for other in others.split()} <= known, name
        known.add(name)


def test_analysis_reads_records_and_its_rooms_import_to_the_left() -> None:
    wrong = []
    for one in imports("analysis"):
        if one.module.startswith("analysis"):
            own, other = room_of(one.path), room(one.module)
            apart = any({own, other} == pair for pair in PEERS)
            if own != "__init__" and (apart or ANALYSIS.index(other) > ANALYSIS.index(own)):
                wrong.append(f"{one}; rooms stand in the order {', '.join(ANALYSIS)}")
    assert not wrong, "\n".join(wrong)


def test_methods_and_the_report_import_their_interface_alone() -> None:
    wrong = [
        str(one)
        for folder, allowed in OTHERS.items()
        for one in imports(folder)
        if ".".join(one.module.split(".")[: 1 if one.module.startswith(folder) else 2]) not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_imported_by_name_outside_of_plugins() -> None:
    """An import by name hides a circle from the tests above."""
    wrong = [
        f"{path.relative_to(ROOT)}: an import by name"
        for folder in ("benchmark", "baselines", "analysis")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "plugins.py" and BY_NAME.search(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)
