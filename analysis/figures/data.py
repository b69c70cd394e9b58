"""Blocks -> what the figures draw: values and differences with their seeds, curves over epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.blocks.block import Block
from analysis.blocks.rows import Column, Row
from analysis.blocks.statistics import BySeed, t_interval
from analysis.read.methods import family_of

LEAST_FOR_INTERVAL = 3
"""Seeds: two are two points."""


@dataclass(frozen=True)
class Effect:
    """A value or a difference over its seeds, in percent or points."""

    n: int
    mean: float
    interval: tuple[float, float] | None
    """95 % over seeds; None of fewer than three."""
    points: tuple[float, ...]
    """What is drawn: the mean where there is an interval, else each seed's own."""
    name: str = ""
    """Of the configuration, where several stand in one place."""
    configurations: int = 1
    is_below_pixels: bool = False
    """Less than what the probe gets from raw pixels."""

    @property
    def ends(self) -> tuple[float, ...]:
        return self.points if self.interval is None else self.interval


@dataclass(frozen=True)
class Point:
    """A method: the share of full data's samples that it saw, and its value; both in percent."""

    method: str
    family: str
    seen: float
    value: Effect


@dataclass(frozen=True)
class Curve:
    """A method over the epochs: the mean over seeds, and the seeds' own."""

    method: str
    family: str
    n: int
    epochs: tuple[int, ...]
    """From 1."""
    mean: tuple[float, ...]
    by_seed: tuple[tuple[float, ...], ...]


def effect_of(values: Sequence[float], name: str = "", configurations: int = 1) -> Effect | None:
    """Of fractions, one a seed. Seeds that are all equal say nothing of the spread."""
    if not values:
        return None
    scaled = tuple(100 * value for value in values)
    mean = float(np.mean(scaled))
    interval = t_interval(scaled) if np.ptp(scaled) > 1e-9 else None
    if len(values) < LEAST_FOR_INTERVAL or interval is None:
        return Effect(len(values), mean, None, scaled, name, configurations)
    return Effect(len(values), mean, interval, (mean,), name, configurations)


def average_of(strata: Sequence[BySeed], name: str = "") -> Effect | None:
    """Averaged over strata (configurations) seed by seed, over the seeds that all of them have."""
    seeds = sorted(set.intersection(*(set(one) for one in strata))) if strata else []
    return effect_of([float(np.mean([one[seed] for one in strata])) for seed in seeds], name, len(strata))


def points(block: Block, column: Column) -> list[Point]:
    """A point a method that has the metric."""
    found = []
    for row in block.rows:
        value = effect_of(list(row.values.get(column, {}).values()))
        if value is not None:
            below = row.cells[column].is_below_pixels
            found.append(Point(row.method, _family(row), seen(row), replace(value, is_below_pixels=below)))
    return found


def seen(row: Row) -> float:
    """Percent of a full run's samples, the mean over the row's runs."""
    return 100 * (1 - float(np.mean([run.record["training"]["pruning_rate"] for run in row.runs])))


def _family(row: Row) -> str:
    return family_of(row.runs[0].record)


def kept_curves(block: Block) -> list[Curve]:
    """Of each method the share of the pool that an epoch visits, percent."""
    sizes = {run.record["pool_facts"]["num_samples"] for run in block.runs}
    return _curves(block, lambda epoch: 100 * epoch["kept"] / max(sizes))


def loss_curves(block: Block) -> list[Curve]:
    """Of each method the training loss of the epochs that visit the whole pool: of a part it is something else."""
    most = max((e["kept"] for run in block.runs for e in run.record["training"]["by_epoch"]), default=0)
    return _curves(block, lambda epoch: epoch["loss"] if epoch["kept"] >= most else None)


def _curves(block: Block, value: Callable[[Mapping[str, Any]], float | None]) -> list[Curve]:
    return [curve for row in block.rows if (curve := _curve(row, value)) is not None]


def _curve(row: Row, value: Callable[[Mapping[str, Any]], float | None]) -> Curve | None:
    seeds = {}
    for run in row.runs:
        by_epoch = {e["epoch"] + 1: value(e) for e in run.record["training"]["by_epoch"]}
        told = {epoch: number for epoch, number in by_epoch.items() if number is not None}
        if told:
            seeds[run.record["seed"]] = told
    if not seeds:
        return None
    epochs = sorted(set.intersection(*(set(one) for one in seeds.values())))  # a mean is over the same seeds
    by_seed = np.array([[one[epoch] for epoch in epochs] for one in seeds.values()])  # [seeds, epochs]
    if not epochs:
        return None
    mean = by_seed.mean(axis=0).tolist()
    return Curve(
        row.method, _family(row), len(seeds), tuple(epochs), tuple(mean), tuple(map(tuple, by_seed.tolist()))
    )
