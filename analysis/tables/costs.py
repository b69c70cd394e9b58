"""Blocks -> tables of cost: samples, steps, seconds, GPU or core hours, and energy with its assumption."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.blocks.block import Block
from analysis.blocks.rows import Row
from analysis.blocks.statistics import spread
from analysis.blocks.words import seconds, whole
from analysis.read.methods import FULL
from analysis.read.results import Run
from analysis.tables.render import PaperCell, PaperRow, PaperTable
from benchmark.options import ConfigError, check_keys, load_yaml

DEFAULT_FILE = Path(__file__).parents[1] / "energy.yaml"
NOT_RECORDED = PaperCell(("not recorded",))
_THREADS = re.compile(r"\((\d+) threads\)$")


@dataclass(frozen=True)
class Energy:
    """Watts by device."""

    devices: Mapping[str, float]
    default_gpu: float | None
    default_core: float | None

    def watts(self, device: str) -> tuple[float | None, str]:
        """Of one rank's device, and on which assumption; None where there is no number to go by."""
        if is_cpu(device):
            if self.default_core is None:
                return None, "no estimate for CPUs: default_core is not set"
            return self.default_core * threads(device), f"{self.default_core:g} W a CPU core"
        for name, watts in self.devices.items():
            if name.lower() in device.lower():
                return watts, f"{watts:g} W for {device} (TDP of {name})"
        if self.default_gpu is None:
            return None, f"no estimate for {device}: not listed"
        return self.default_gpu, f"{self.default_gpu:g} W for {device} (not listed: the default)"


def read_energy(path: Path = DEFAULT_FILE) -> Energy:
    """Raises ConfigError for anything but a file as ``energy.yaml``."""
    node = load_yaml(path)
    check_keys(node, ["devices", "default_gpu", "default_core"], str(path), all_required=True)
    devices = node["devices"] or {}
    values = [*devices.values(), *(v for v in (node["default_gpu"], node["default_core"]) if v is not None)]
    if not isinstance(devices, Mapping) or not all(isinstance(v, int | float) and v > 0 for v in values):
        raise ConfigError(f"{path}: watts must be numbers above 0")
    return Energy({str(k): float(v) for k, v in devices.items()}, node["default_gpu"], node["default_core"])


def is_cpu(device: str) -> bool:
    """What has no GPU is named by its processor and threads."""
    return device == "cpu" or _THREADS.search(device) is not None


def threads(device: str) -> int:
    found = _THREADS.search(device)
    return int(found[1]) if found else 1


def hours(record: Mapping[str, Any]) -> float:
    """GPU hours of a run's training on GPUs, core hours on CPUs."""
    each = threads(record["device"]) if is_cpu(record["device"]) else 1
    return record["training"]["seconds"] * record["num_ranks"] * each / 3600


def cost_tables(blocks: Sequence[Block], energy: Energy) -> list[PaperTable]:
    """A table a block and kind of device: costs of two machines never share a mean."""
    tables = []
    for block in blocks:
        devices = sorted({(run.record["device"], run.record["num_ranks"]) for run in block.runs})
        tables += [_table(block, device, ranks, energy) for device, ranks in devices]
    return tables


def _table(block: Block, device: str, ranks: int, energy: Energy) -> PaperTable:
    watts, assumption = energy.watts(device)
    own = {row.method: _on(row, device, ranks) for row in block.rows}
    full = {run.record["seed"]: run.record["training"] for run in own.get(FULL, [])}
    unit = "core hours" if is_cpu(device) else "GPU hours"
    most = max((r.record["training"]["seconds"] for runs in own.values() for r in runs), default=0.0)
    is_small = watts is not None and most * ranks * watts < 3.6e6  # no run takes a kWh
    rows = []
    for method, runs in own.items():
        if not runs:
            continue
        cells = [
            _counted(runs, lambda r: 100 * r["training"]["pruning_rate"], lambda v: f"{v:.1f}"),
            _counted(runs, lambda r: r["training"]["samples_seen"], whole),
            _counted(runs, lambda r: r["training"].get("samples_scored"), whole),
            _counted(runs, lambda r: r["training"].get("optimizer_steps"), whole),
            _with_ratio(_counted(runs, lambda r: r["training"]["seconds"], seconds), runs, full, method),
            _counted(runs, lambda r: r["training"]["pruning_seconds"], _small),
            _counted(runs, hours, _small),
            _energy_cell(runs, watts, is_small),
        ]
        rows.append(PaperRow(method, tuple(cells)))
    heads = [
        ("pruned", "% of samples"), ("samples seen",), ("samples scored", "forward only"), ("optimiser steps",),
        ("seconds", "training"), ("seconds", "bookkeeping"), (unit, "training"),
        ("energy", f"{'Wh' if is_small else 'kWh'}, estimate"),
    ]  # fmt: skip
    title = f"{block.title} · cost on {device}" + (f" × {ranks}" if ranks > 1 else "")
    notes = (
        "per run: mean over n seeds; × is the ratio to full data over common seeds on this device",
        f"energy: {'hours × watts; ' if watts else ''}{assumption}",
        "not counted: passes over features, choices made by jobs of their own, evaluation, failed attempts",
    )
    return PaperTable("cost", title, "method", tuple(heads), tuple(rows), notes)


def _on(row: Row, device: str, ranks: int) -> list[Run]:
    return [r for r in row.runs if (r.record["device"], r.record["num_ranks"]) == (device, ranks)]


def _counted(
    runs: Sequence[Run], get: Callable[[Mapping[str, Any]], float | None], number: Callable[[float], str]
) -> PaperCell:
    values = {run.record["seed"]: get(run.record) for run in runs}
    told = {seed: value for seed, value in values.items() if value is not None}
    over = spread(told.values())
    if over is None:
        return NOT_RECORDED
    sd = f"sd {number(over.sd)}, " if over.sd else ""
    used = tuple(run for run in runs if run.record["seed"] in told)
    facts = {"n": over.n, "mean": over.mean, "sd": over.sd}
    return PaperCell((number(over.mean), f"{sd}n = {over.n}"), runs=used, facts=facts)


def _with_ratio(cell: PaperCell, runs: Iterable[Run], full: Mapping[int, Any], method: str) -> PaperCell:
    ratios = [
        run.record["training"]["seconds"] / full[run.record["seed"]]["seconds"]
        for run in runs
        if full.get(run.record["seed"], {}).get("seconds", 0) > 0
    ]
    over = spread(ratios)
    if over is None or method == FULL:
        return cell
    line = f"× {over.mean:.2f} of full (n = {over.n})"
    return PaperCell((*cell.lines, line), runs=cell.runs, facts={**cell.facts, "ratio": over.mean})


def _energy_cell(runs: Sequence[Run], watts: float | None, is_small: bool) -> PaperCell:
    if watts is None:
        return PaperCell(("no estimate",))
    # watts are those of a rank's whole device, and so are its hours here: a CPU's threads are in the watts
    scale = watts / 3600 / (1 if is_small else 1000)
    return _counted(runs, lambda r: r["training"]["seconds"] * r["num_ranks"] * scale, _small)


def _small(value: float) -> str:
    if value >= 100:
        return whole(value)
    if value >= 0.1 or value == 0:
        return f"{value:.2f}"
    return f"{value:.2g}" if value >= 1e-4 else "< 0.0001"
