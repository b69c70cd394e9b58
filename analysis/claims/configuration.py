"""What a claim compares in one configuration: a block's rows by method, and its values seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from analysis.blocks.block import Block
from analysis.blocks.rows import Column, Row
from analysis.blocks.statistics import BySeed, mean_by_seed, paired_differences
from analysis.claims.contrast import Arm, Pair, mean_of_layouts
from analysis.claims.registry import Registry
from analysis.claims.schedule import measured_in_cycles
from analysis.claims.settings import PaperConfiguration
from analysis.read.methods import (
    FULL,
    SCAN,
    changed_options,
    coreset_source,
    family_of,
    is_coreset_of,
    is_published_scan,
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
    other_measure: str = ""
    """Stands in for the framework's endpoint."""

    @property
    def name(self) -> str:
        """What it counts as: one of the paper's, whichever arm of it this is, or itself."""
        return " · ".join(self.key) if self.paper else self.block.title

    @property
    def key(self) -> tuple[str, str, str]:
        return self.block.key[:3]

    @cached_property
    def _measured(self) -> list[Column]:
        framework = self.block.key[0]
        name = self.other_measure or self.registry.endpoint.get(framework, "")
        asked = self.registry.measures.get(framework, {}).get(name, ())
        return [c for c in self.block.columns if (c.task, c.metric) in asked and self._counts(c)]

    @cached_property
    def columns(self) -> list[Column]:
        """Of the measure, those that tell methods apart."""
        return [column for column in self._measured if column not in self.block.marks]

    @property
    def measure(self) -> str:
        metrics: dict[str, list[str]] = {}
        for column in self.columns:
            metrics.setdefault(f"{TASK_WORDS[column.task]} {column.metric}", []).append(column.dataset)
        return ", ".join(f"{name} on {' and '.join(sorted(set(sets)))}" for name, sets in sorted(metrics.items()))

    @property
    def left_out(self) -> list[str]:
        """Of the measure, what tells nothing, with the reason."""
        marks = self.block.marks
        return [f"{TASK_WORDS[c.task]} on {c.dataset}, {marks[c]}" for c in self._measured if c in marks]

    def _counts(self, column: Column) -> bool:
        return self.paper is None or bool(self.other_measure) or column.dataset == self.paper.dataset

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
        for column in self._of_both(row, base):
            own, other = row.values[column], base.values[column]
            found = paired_differences(own, other)
            if is_relative:
                found = {seed: value / other[seed] for seed, value in found.items() if other[seed] > 0}
            parts.append(found)
        return mean_by_seed(parts)

    def against(self, row: Row, base: Row) -> Arm:
        """The same as an arm of a comparison, with what tells how sure it is."""
        pair = Pair(row, base, tuple(self._of_both(row, base)))
        rows = {family_of(one.runs[0].record): one for one in reversed(self.block.rows) if one.runs}
        return Arm(self.block.note, self.differences(row, base), (row, base), (pair,), self._layout(rows))

    def _of_both(self, row: Row, base: Row) -> list[Column]:
        return [c for c in self.columns if row.values.get(c, {}).keys() & base.values.get(c, {}).keys()]

    def _layout(self, rows: Mapping[str, Row]) -> dict[str, BySeed]:
        """The measure by method and seed, of the rows that have all of it."""
        values = {name: [row.values.get(column, {}) for column in self.columns] for name, row in rows.items()}
        return {name: mean_by_seed(columns) for name, columns in values.items() if all(columns)}

    def pruned(self, row: Row) -> BySeed:
        return {run.record["seed"]: run.record["training"]["pruning_rate"] for run in row.runs}

    def pruned_in_cycles(self, row: Row) -> BySeed:
        """seed -> the share left out over SCAN's whole cycles, for the runs that have one."""
        cycle = published_options(self.key[0])["cycle"]
        found = {run.record["seed"]: measured_in_cycles(run.record, cycle) for run in row.runs}
        return {seed: share for seed, share in found.items() if share is not None}

    def overhead(self, row: Row) -> BySeed:
        """seed -> (ratio of seconds / ratio of samples seen) - 1, against full data on the same device."""
        base = {_machine(run): run.record["training"] for run in self.full.runs} if self.full else {}
        found = {}
        for run in row.runs:
            own, other = run.record["training"], base.get(_machine(run))
            if other and other["seconds"] > 0 and other["samples_seen"] > 0 and own["samples_seen"] > 0:
                samples = own["samples_seen"] / other["samples_seen"]
                found[run.record["seed"]] = own["seconds"] / other["seconds"] / samples - 1
        return found

    def coresets_against(self, rival: str, method: str, by_name: Mapping[str, Run]) -> Arm:
        """The method's coreset against the rival, the mean over equal budgets."""
        pairs, layouts = [], []
        for budget in static_budgets(self.block, by_name):
            coresets = [row for row in budget.rows.values() if is_coreset_of(method, row.runs[0], by_name)]
            rivals = [row for (name, _), row in budget.rows.items() if name == rival]
            if coresets and rivals:
                own = min(coresets, key=lambda row: coreset_source(row.runs[0], by_name) != method)
                if columns := self._of_both(own, rivals[0]):
                    pairs.append(Pair(own, rivals[0], tuple(columns)))
                    layouts.append(self._layout({str(kind): row for kind, row in budget.rows.items()}))
        values = mean_by_seed([self.differences(pair.row, pair.base) for pair in pairs])
        rows = tuple(row for pair in pairs for row in (pair.row, pair.base))
        return Arm(self.block.note, values, rows, tuple(pairs), mean_of_layouts(layouts))


def _machine(run: Run) -> tuple[int, str, int]:
    return run.record["seed"], run.record["device"], run.record["num_ranks"]
