"""One comparison of a claim: what each configuration has by seed, the runs behind it, and how sure its mean is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean

import numpy as np

from analysis.blocks.crossed import Crossed, crossed
from analysis.blocks.needed import needed_seeds
from analysis.blocks.rows import Column, Row
from analysis.blocks.statistics import (
    BySeed,
    Difference,
    Pooled,
    averaged,
    common_seeds,
    mean_by_seed,
    pooled,
)
from analysis.blocks.words import points
from analysis.read.items import NoItemsError, items_of
from analysis.read.results import Run

Layout = Mapping[str, BySeed]
"""Values of a measure by method and seed."""


@dataclass(frozen=True)
class Pair:
    """Two methods of one configuration, at one budget."""

    row: Row
    base: Row
    columns: tuple[Column, ...]
    """That both were measured on."""


@dataclass(frozen=True)
class Arm:
    """What one way to train a configuration gives to a comparison."""

    note: str
    """What tells it from the configuration's other arms; mostly there is one."""
    values: BySeed
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...] = ()
    """``values`` is the mean over these of the mean over their columns; empty for what is no metric."""
    layout: Layout = field(default_factory=dict)
    """All methods measured alike."""

    def runs(self, seeds: Iterable[int]) -> dict[object, Run]:
        kept = set(seeds) & self.values.keys()
        return {run.folder: run for row in self.rows for run in row.runs if run.record["seed"] in kept}


@dataclass
class Part:
    """A comparison, put together arm by arm."""

    name: str
    arms: dict[str, list[Arm]] = field(default_factory=dict)
    """By name of a configuration."""
    rival_saw_fewer: bool = False
    """Samples, in a configuration at least: then being above it supports nothing."""
    rival_saw_more: bool = False
    """Then being below it refutes nothing."""
    notes: list[str] = field(default_factory=list)

    def add(self, configuration: str, arm: Arm) -> None:
        if arm.values:
            self.arms.setdefault(configuration, []).append(arm)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.arms)

    @property
    def strata(self) -> list[BySeed]:
        """One a configuration: each seed's mean over the arms that have it."""
        return [_over([arm.values for arm in arms]) for arms in self.arms.values()]

    @property
    def seeds(self) -> list[int]:
        """That all configurations have: the others are not used."""
        return common_seeds(self.strata)

    @property
    def runs(self) -> tuple[Run, ...]:
        """Those used, each once: arms may share their full data."""
        found: dict[object, Run] = {}
        for arm in (arm for arms in self.arms.values() for arm in arms):
            found |= arm.runs(self.seeds)
        return tuple(found.values())

    def of(self, name: str) -> Part:
        """The same in one configuration."""
        return Part(name, {name: self.arms[name]})

    def arms_told(self) -> list[str]:
        """Where a configuration has several arms: that they are averaged, and each for itself."""
        several = [arms for arms in self.arms.values() if len(arms) > 1]
        by_note: dict[str, list[float]] = {}
        for arm in (arm for arms in several for arm in arms):
            by_note.setdefault(arm.note, []).append(mean(arm.values.values()))
        words = "; ".join(f"{note}: {points(mean(means))}" for note, means in by_note.items())
        count = f"{len(several)} configuration{'s' * (len(several) > 1)}"
        return [f"arms averaged seed by seed in {count} ({words})"] if several else []


@dataclass(frozen=True)
class Contrast:
    """A comparison's mean over seeds, and what else is known of its variance."""

    part: Part
    found: Difference
    level: float
    """Of the interval in ``found``."""

    @staticmethod
    def of(part: Part, level: float) -> Contrast | None:
        """None without a seed that all configurations have."""
        found = averaged(part.strata, level)
        return Contrast(part, found, level) if found else None

    @cached_property
    def pooled(self) -> Pooled | None:
        """The residual over all methods that every configuration has."""
        layouts = [mean_of_layouts([arm.layout for arm in arms]) for arms in self.part.arms.values()]
        return pooled(mean_of_layouts(layouts), self.part.seeds)

    @property
    def sd(self) -> float | None:
        """Over seeds, to reckon with: the pooled one where methods have one variance, else the larger of it and
        the comparison's own."""
        own = None if self.found.is_constant else self.found.sd
        if self.pooled is None:
            return own
        return self.pooled.sd if self.pooled.is_homoscedastic or own is None else max(own, self.pooled.sd)

    def needed(self, effect: float) -> int | None:
        """Seeds that would settle a true ``effect``; None where that cannot be told."""
        return None if self.sd is None else needed_seeds(self.sd, effect, self.level)

    @cached_property
    def crossed(self) -> Crossed | str:
        """With the test items as drawn too, or why that is not known."""
        try:
            found = crossed(_item_tables(self.part))
        except NoItemsError as error:
            return str(error)
        if found is None:
            return "one seed" if self.found.n == 1 else "nothing varies"
        if abs(found.mean - self.found.mean) > 1e-6:
            return "the items do not add up to the values"
        return found


def mean_of_layouts(layouts: Sequence[Layout]) -> dict[str, BySeed]:
    """Of the methods that all have, the mean by seed."""
    names = set.intersection(*(set(one) for one in layouts)) if layouts else set()
    return {name: mean_by_seed([one[name] for one in layouts]) for name in sorted(names)}


def _over(arms: Sequence[BySeed]) -> BySeed:
    seeds = sorted({seed for arm in arms for seed in arm})
    return {seed: mean(arm[seed] for arm in arms if seed in arm) for seed in seeds}


def _item_tables(part: Part) -> list[np.ndarray]:
    """[n, I] a set of items: what each adds to the difference. Raises NoItemsError.

    Configurations and metrics that were measured on the same items share a table.
    """
    seeds = part.seeds
    tables: dict[tuple[str, int], np.ndarray] = {}
    for arms in part.arms.values():
        for arm in arms:
            if not set(seeds) <= arm.values.keys():
                raise NoItemsError("arms of a configuration have different seeds")
            if not arm.pairs:
                raise NoItemsError("no metric")
            for pair in arm.pairs:
                weight = 1 / (len(part.arms) * len(arms) * len(arm.pairs) * len(pair.columns))
                for column in pair.columns:
                    _add_items(tables, pair, column, seeds, weight)
    return list(tables.values())


def _add_items(
    tables: dict[tuple[str, int], np.ndarray], pair: Pair, column: Column, seeds: Sequence[int], weight: float
) -> None:
    key = column.task, column.dataset, column.metric, column.protocol
    runs, bases = ({run.record["seed"]: run for run in row.runs} for row in (pair.row, pair.base))
    data = ""
    for i, seed in enumerate(seeds):
        own, base = items_of(runs[seed], key), items_of(bases[seed], key)
        count = len(own.hits)
        data = own.data if i == 0 else data
        if {own.data, base.data} != {data} or count != len(base.hits):
            raise NoItemsError(f"{column.dataset}: not the same items in all runs")
        table = tables.setdefault((data, count), np.zeros((len(seeds), count)))
        table[i] += weight * (own.hits - base.hits)
