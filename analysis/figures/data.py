"""Blocks -> what the figures draw: points with their seeds, Pareto fronts, curves, differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.blocks.block import Block
from analysis.blocks.rows import BASELINE, Column, Row
from analysis.blocks.statistics import Difference, Spread, spread, t_interval
from analysis.read.methods import family_of
from analysis.read.results import Run


@dataclass(frozen=True)
class Point:
    """A method: means over its seeds."""

    method: str
    family: str
    n: int
    x: float
    y: float
    """Percent."""
    by_seed: Mapping[int, tuple[float, float]]
    is_below_pixels: bool = False
    """Less than what the probe gets from raw pixels."""
    on_front: bool = False
    """No other method has as much with less, or more with as little."""


@dataclass(frozen=True)
class Curve:
    """A method over the epochs: the mean over seeds, and the seeds' range or lines."""

    method: str
    family: str
    n: int
    epochs: tuple[int, ...]
    """From 1."""
    mean: tuple[float, ...]
    by_seed: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Effect:
    """A method's paired difference to full in percentage points."""

    method: str
    difference: Difference
    configurations: int = 1
    is_below_pixels: bool = False
    """Its value, in the one configuration."""


def headlines(block: Block) -> list[Column]:
    """The first metric of each task, data set and protocol. Nats have no place on an axis of percent."""
    first: dict[tuple[object, ...], Column] = {}
    for column in [column for column in block.columns if not column.is_nats]:
        first.setdefault((column.task, column.dataset, column.protocol, column.items, column.options), column)
    return list(first.values())


def points(block: Block, column: Column, quantity: str) -> list[Point]:
    """A point a method that has the metric; ``quantity`` is one of a record's ``training``.

    Seconds are compared on one device: that of most runs.
    """
    device = _commonest_device(block.runs) if quantity == "seconds" else None
    found = []
    for row in block.rows:
        runs = [run for run in row.runs if device is None or device_of(run) == device]
        x = {run.record["seed"]: float(run.record["training"][quantity]) for run in runs}
        values = row.values.get(column, {})
        by_seed = {seed: (x[seed], 100 * values[seed]) for seed in sorted(x.keys() & values.keys())}
        if by_seed:
            mean_x, mean_y = np.mean(list(by_seed.values()), axis=0).tolist()
            family = family_of(runs[0].record)
            is_below = row.cells[column].is_below_pixels
            found.append(Point(row.method, family, len(by_seed), mean_x, mean_y, by_seed, is_below))
    return _with_front(found)


def scaled(point: Point, factor: float) -> Point:
    """With x in another unit."""
    by_seed = {seed: (factor * x, y) for seed, (x, y) in point.by_seed.items()}
    return replace(point, x=factor * point.x, by_seed=by_seed)


def _with_front(found: Sequence[Point]) -> list[Point]:
    return [replace(one, on_front=not any(_beats(other, one) for other in found)) for one in found]


def _beats(one: Point, other: Point) -> bool:
    return one.x <= other.x and one.y >= other.y and (one.x, one.y) != (other.x, other.y)


def device_of(run: Run) -> str:
    ranks = run.record["num_ranks"]
    return f"{run.record['device']}, {ranks} rank" + "s" * (ranks > 1)


def _commonest_device(runs: Sequence[Run]) -> str:
    return max(Counter(map(device_of, runs)).items(), key=lambda item: (item[1], item[0]))[0]


def left_out_devices(block: Block) -> str:
    """What a figure over seconds leaves out, in words; empty if nothing."""
    if not block.runs:
        return ""
    device = _commonest_device(block.runs)
    others = sum(device_of(run) != device for run in block.runs)
    return f" Runs on {device}; {others} on other devices are left out." if others else ""


def lines(found: Sequence[Point]) -> dict[str, list[Point]]:
    """family -> its points by x, of those with at least two budgets."""
    members: dict[str, list[Point]] = {}
    for point in found:
        members.setdefault(point.family, []).append(point)
    return {
        name: sorted(ones, key=lambda one: one.x)
        for name, ones in members.items()
        if len({one.method for one in ones}) > 1
    }


def curves(block: Block, what: str) -> list[Curve]:
    """For each method with the value: ``kept`` in percent of the pool, ``lr`` or ``loss`` as they are."""
    return [curve for row in block.rows if (curve := _curve(row, what)) is not None]


def _curve(row: Row, what: str) -> Curve | None:
    seeds = {}
    for run in row.runs:
        scale = 100 / run.record["pool_facts"]["num_samples"] if what == "kept" else 1
        values = {
            e["epoch"] + 1: scale * e[what] for e in run.record["training"]["by_epoch"] if e[what] is not None
        }
        if values:
            seeds[run.record["seed"]] = values
    if not seeds:
        return None
    epochs = sorted(set.intersection(*(set(one) for one in seeds.values())))  # a mean is over the same seeds
    by_seed = np.array([[one[epoch] for epoch in epochs] for one in seeds.values()])  # [seeds, epochs]
    mean = by_seed.mean(axis=0).tolist()
    family = family_of(row.runs[0].record)
    return Curve(row.method, family, len(seeds), tuple(epochs), tuple(mean), tuple(map(tuple, by_seed.tolist())))


def baseline(block: Block, column: Column) -> Spread | None:
    """Full's values, percent."""
    values = next((row.values.get(column, {}) for row in block.rows if row.method == BASELINE), {})
    return spread(100 * value for value in values.values())


def effects(block: Block, column: Column) -> list[Effect]:
    """A method each that has a seed in common with full."""
    found = []
    for row in block.rows:
        cell = row.cells.get(column)
        if cell is not None and cell.difference is not None:
            found.append(Effect(row.method, _in_points(cell.difference), 1, cell.is_below_pixels))
    return found


def average_effects(blocks: Sequence[Block], column: Column) -> list[Effect]:
    """Averaged over configurations seed by seed, so the interval is one over seeds.

    A configuration takes part in a method's average if it has the metric for the method and full; only seeds that
    all of these have count.
    """
    by_method: dict[str, list[dict[int, float]]] = {}
    for block in blocks:
        full: Mapping[int, float] = next(
            (r.values.get(column, {}) for r in block.rows if r.method == BASELINE), {}
        )
        for row in block.rows:
            own = row.values.get(column, {})
            differences = {seed: own[seed] - full[seed] for seed in sorted(own.keys() & full.keys())}
            if differences and row.method != BASELINE:
                by_method.setdefault(row.method, []).append(differences)
    found = []
    for method, per_block in by_method.items():
        common = sorted(set.intersection(*(set(one) for one in per_block)))
        over_seeds = [float(np.mean([one[seed] for one in per_block])) for seed in common]
        if over_seeds:
            difference = Difference(len(over_seeds), float(np.mean(over_seeds)), t_interval(over_seeds))
            found.append(Effect(method, _in_points(difference), len(per_block)))
    return found


def _in_points(one: Difference) -> Difference:
    interval = (100 * one.ci95[0], 100 * one.ci95[1]) if one.ci95 else None
    return Difference(one.n, 100 * one.mean, interval)
