"""What a claim compares in one configuration: a block's rows by method, and its values seed by seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from analysis.blocks.block import Block
from analysis.blocks.rows import Column, Row
from analysis.blocks.statistics import BySeed, paired_differences
from analysis.claims.registry import Registry
from analysis.claims.schedule import measured_in_cycles
from analysis.claims.settings import PaperConfiguration
from analysis.read.methods import (
    FULL,
    SCAN,
    changed_options,
    coreset_source,
    counted,
    is_published_scan,
    is_scan_coreset,
    is_variant,
    pruner_of,
    published_options,
)
from analysis.read.results import Run
from analysis.tables.cells import TASK_WORDS, pruned_share
from analysis.tables.coresets import static_budgets


@dataclass(frozen=True)
class Configuration:
    """A block as the claims see it."""

    block: Block
    paper: PaperConfiguration | None
    """The paper's that it is trained as; None for any other."""
    registry: Registry

    @property
    def name(self) -> str:
        """What it counts as: one of the paper's, whichever arm of it this is, or itself."""
        return " · ".join(self.key) if self.paper else self.block.title

    @property
    def key(self) -> tuple[str, str, str]:
        return self.block.key[:3]

    @cached_property
    def columns(self) -> list[Column]:
        """Of the measure: one a data set."""
        for task, metric in self.registry.measures.get(self.block.key[0], []):
            found = [c for c in self.block.columns if (c.task, c.metric) == (task, metric) and self._counts(c)]
            if found:
                return found
        return []

    @property
    def measure(self) -> str:
        names = sorted({f"{TASK_WORDS[c.task]} {c.metric} on {c.dataset}" for c in self.columns})
        return ", ".join(names)

    def _counts(self, column: Column) -> bool:
        return self.paper is None or column.dataset == self.paper.dataset

    @cached_property
    def _rows(self) -> dict[str, list[Row]]:
        rows: dict[str, list[Row]] = {}
        for row in self.block.rows:
            if row.runs and not is_variant(row.runs[0]):
                rows.setdefault(pruner_of(row.runs[0])[0], []).append(row)
        return rows

    def rows(self, method: str) -> list[Row]:
        """All of SCAN with its published options; of another method the first."""
        rows = self._rows.get(method, [])
        return [row for row in rows if is_published_scan(row.runs[0])] if method == SCAN else rows[:1]

    @property
    def full(self) -> Row | None:
        return next(iter(self.rows(FULL)), None)

    def unlike_scan(self) -> str:
        """How the variant of SCAN nearest to the published options differs, where there is none with them."""
        own = [row.runs[0] for row in self.block.rows if row.runs and pruner_of(row.runs[0])[0] == SCAN]
        changed = [changed_options(run) for run in own]
        if self.rows(SCAN) or not any(changed):
            return ""
        nearest = min(filter(None, changed), key=len)
        published = published_options(self.key[0])
        return ", ".join(f"scan.{key} {value} (published {published[key]})" for key, value in nearest.items())

    def nearest(self, rival: str, pruned: float) -> Row | None:
        """The rival's row whose measured pruned share is nearest to ``pruned``."""
        return min(self._rows.get(rival, []), key=lambda row: abs(pruned_share(row.runs) - pruned), default=None)

    def differences(self, row: Row, base: Row, is_relative: bool = False) -> BySeed:
        """seed -> row - base, the mean over the data sets that both were measured on (for seeds that have all)."""
        parts = []
        for column in self.columns:
            own, other = row.values.get(column, {}), base.values.get(column, {})
            found = paired_differences(own, other)
            if is_relative:
                found = {seed: value / other[seed] for seed, value in found.items() if other[seed] > 0}
            if found:
                parts.append(found)
        return mean_by_seed(parts)

    def pruned(self, row: Row) -> BySeed:
        return {run.record["seed"]: run.record["training"]["pruning_rate"] for run in row.runs}

    def pruned_in_cycles(self, row: Row) -> BySeed:
        """seed -> the share left out over SCAN's whole cycles, for the runs that have one."""
        cycle = published_options(self.key[0])["cycle"]
        found = {run.record["seed"]: measured_in_cycles(run.record, cycle) for run in row.runs}
        return {seed: share for seed, share in found.items() if share is not None}

    def overhead(self, row: Row) -> BySeed:
        """seed -> (ratio of seconds / ratio of samples seen) - 1, against full data on the same device."""
        base = {_machine(run): run.record["training"] for run in counted(self.full.runs)} if self.full else {}
        found = {}
        for run in counted(row.runs):
            own, other = run.record["training"], base.get(_machine(run))
            if other and other["seconds"] > 0 and other["samples_seen"] > 0 and own["samples_seen"] > 0:
                samples = own["samples_seen"] / other["samples_seen"]
                found[run.record["seed"]] = own["seconds"] / other["seconds"] / samples - 1
        return found

    def coresets_against(self, rival: str, by_name: Mapping[str, Run]) -> tuple[BySeed, list[Row]]:
        """seed -> SCAN's coreset - the rival, the mean over equal budgets; and the rows it rests on."""
        parts, used = [], []
        for budget in static_budgets(self.block, by_name):
            coresets = [row for row in budget.rows.values() if is_scan_coreset(row.runs[0], by_name)]
            rivals = [row for (name, _), row in budget.rows.items() if name == rival]
            if coresets and rivals:
                own = min(coresets, key=lambda row: coreset_source(row.runs[0], by_name) != SCAN)
                found = self.differences(own, rivals[0])
                if found:
                    parts.append(found)
                    used += [own, rivals[0]]
        return mean_by_seed(parts), used


def mean_by_seed(parts: Sequence[BySeed]) -> BySeed:
    """The mean of several, for the seeds that all have."""
    if not parts:
        return {}
    seeds = sorted(set.intersection(*(set(part) for part in parts)))
    return {seed: sum(part[seed] for part in parts) / len(parts) for seed in seeds}


def runs_of(rows: Iterable[Row], seeds: Iterable[int]) -> list[Run]:
    """Each run once."""
    kept = set(seeds)
    found = {run.folder: run for row in rows for run in counted(row.runs) if run.record["seed"] in kept}
    return list(found.values())


def _machine(run: Run) -> tuple[int, str, int]:
    return run.record["seed"], run.record["device"], run.record["num_ranks"]
