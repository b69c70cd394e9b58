"""What values of probes are held against: raw pixels, and the models with their initial weights.

Both were measured by the same probe on the same items: a column's task, data set, metric, protocol and number of
items.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from analysis.blocks.rows import BASELINE, Cell, Column, Held, Row, columns_of
from analysis.blocks.statistics import Spread, spread
from analysis.read.results import Foreign, Run
from benchmark.runs.record import CONTROL_KINDS

PIXELS, UNTRAINED = CONTROL_KINDS
RAW_PIXELS = "raw pixels"
NAMES = {UNTRAINED: "untrained", PIXELS: RAW_PIXELS}
"""Of the controls' rows."""
TOLD = (
    "untrained: the same network with its initial weights, of the same seeds; raw pixels: the probe on the images"
    " themselves, made small. Both are measured by the same protocol. They are no methods: neither is the best of"
    " anything, nor in a difference.",
    '"below raw pixels": the mean of the method is below what the probe gets without any network.',
    '"of the gain kept": (value − untrained) / (full − untrained), from means over the seeds that all three have;'
    " not told where full is not above untrained.",
)
"""How to read them, in a report that has any."""

Key = tuple[Any, ...]


class Controls:
    """Values of all controls, by what was measured."""

    def __init__(self, found: Iterable[Foreign]) -> None:
        self._pixels: dict[Key, float] = {}
        self._untrained: dict[Key, float] = {}
        for one in found:
            told = one.evaluation["control"]
            values = {_key(metric): metric["value"] for metric in one.evaluation["metrics"]}
            if told["kind"] == PIXELS:
                self._pixels |= values
            else:
                model = _model(told["framework"], told["model"], told["seed"])
                self._untrained |= {(*model, *key): value for key, value in values.items()}

    def pixels(self, metric: Mapping[str, Any]) -> float | None:
        """What raw pixels have of a record's metric."""
        return self._pixels.get(_key(metric))

    def pixels_of(self, column: Column) -> float | None:
        return self._pixels.get(_column_key(column))

    def untrained(self, runs: Iterable[Run], column: Column) -> dict[int, float]:
        """Seed -> what the run's network has with its initial weights."""
        found = {}
        for run in runs:
            model = _model(run.record["framework"], run.record["config"].get("model"), run.record["seed"])
            value = self._untrained.get((*model, *_column_key(column)))
            if value is not None:
                found[run.record["seed"]] = value
        return found

    def beside(self, rows: Sequence[Row]) -> list[Row]:
        """The rows, each value held against the controls there are."""
        full = next((row for row in rows if row.method == BASELINE), None)
        return [
            replace(row, cells={column: self._held(row, full, column, cell) for column, cell in row.cells.items()})
            for row in rows
        ]

    def rows(self, rows: Sequence[Row]) -> dict[str, dict[Column, Spread]]:
        """Name of a control -> its values by column, over the seeds of the runs in ``rows``; {} without any."""
        runs = [run for row in rows for run in row.runs]
        found: dict[str, dict[Column, Spread]] = {}
        for column in columns_of(rows):
            pixels = self.pixels_of(column)
            values = {UNTRAINED: self.untrained(runs, column).values(), PIXELS: [] if pixels is None else [pixels]}
            for kind, own in values.items():
                over = spread(own)
                if over is not None:
                    found.setdefault(NAMES[kind], {})[column] = over
        return {name: found[name] for name in NAMES.values() if name in found}

    def _held(self, row: Row, full: Row | None, column: Column, cell: Cell) -> Cell:
        pixels = self.pixels_of(column)
        untrained = self.untrained(row.runs, column)
        if cell.spread is None or (pixels is None and not untrained):
            return cell
        kept, seeds = None, 0
        if full is not None and row is not full:
            kept, seeds = gain_kept(row.values[column], full.values[column], untrained)
        return replace(cell, held=Held(pixels, spread(untrained.values()), kept, seeds))


def gain_kept(
    values: Mapping[int, float], full: Mapping[int, float], untrained: Mapping[int, float]
) -> tuple[float | None, int]:
    """(value − untrained) / (full − untrained) of the means over common seeds, and how many these are.

    None without a common seed, or where full is not above untrained.
    """
    seeds = sorted(values.keys() & full.keys() & untrained.keys())
    gain = sum(full[seed] - untrained[seed] for seed in seeds)
    if gain <= 0:
        return None, 0
    return sum(values[seed] - untrained[seed] for seed in seeds) / gain, len(seeds)


def _key(metric: Mapping[str, Any]) -> Key:
    return metric["task"], metric["dataset"], metric["metric"], metric["protocol"], metric["n"]


def _column_key(column: Column) -> Key:
    return column.task, column.dataset, column.metric, column.protocol, column.items


def _model(framework: str, model: Any, seed: int) -> Key:
    return framework, json.dumps(model, sort_keys=True), seed
