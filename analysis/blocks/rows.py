"""Runs of one method -> ``Row``: a cell a metric, with its seeds, or the reason why there is no number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.blocks.statistics import Difference, Interval, Spread, best_of, paired, spread
from analysis.read.results import Missing, Run
from analysis.read.setting import differing, evaluation_of, is_of, measures
from benchmark.runs.record import NATS, TASKS

BASELINE = "full"
QUANTITIES = ("pruning_rate", "samples_seen", "seconds")
"""Of a record's ``training``, what the main table shows."""

BySeed = Mapping[int, float]
Metrics = Mapping["Column", Mapping[int, dict[str, Any]]]
"""Column -> seed -> the metric's entry in the record."""


@dataclass(frozen=True)
class Column:
    """A metric as one protocol measured it; values of two protocols, test sets or options never share one."""

    task: str
    dataset: str
    metric: str
    protocol: str
    items: int
    """Test items, the same for every value in the column."""
    options: str
    """The evaluation's options, JSON."""

    @property
    def name(self) -> str:
        return f"{self.task} {self.dataset} {self.metric} ({self.protocol})"

    @property
    def is_nats(self) -> bool:
        """Nats, less is better; every other metric is a fraction, more is better."""
        return self.metric in NATS


@dataclass(frozen=True)
class Held:
    """What the controls have where a value stands (``analysis.blocks.controls``)."""

    pixels: float | None
    untrained: Spread | None
    gain_kept: float | None
    """(value − untrained) / (full − untrained); None for full itself too."""
    gain_seeds: int
    """Seeds that it rests on."""


@dataclass(frozen=True)
class Cell:
    """One number of a table with its seeds, or the reasons why there is none."""

    spread: Spread | None = None
    asked: int = 0
    """Seeds that were asked for."""
    difference: Difference | None = None
    """To ``full``, over common seeds."""
    ratio: Spread | None = None
    """To ``full``, over common seeds on the same device; seconds only."""
    items95: Interval | None = None
    """The record's own interval over test items; only for one seed."""
    absent: tuple[str, ...] = ()
    """Seeds without a record, with the reasons; the same in all cells of a row."""
    unmeasured: tuple[str, ...] = ()
    """Seeds with a record but no value here, each with the reason."""
    is_best: bool = False
    held: Held | None = None
    """Of a value of a probe that has controls."""

    @property
    def is_below_pixels(self) -> bool:
        pixels = self.held.pixels if self.held else None
        return self.spread is not None and pixels is not None and self.spread.mean < pixels


@dataclass(frozen=True)
class Row:
    """One method."""

    method: str
    runs: tuple[Run, ...]
    missing: tuple[Missing, ...]
    values: Mapping[Column, BySeed]
    cells: Mapping[Column, Cell]
    quantities: Mapping[str, Cell]
    """By the names in ``QUANTITIES``."""


def build_rows(runs: Sequence[Run], missing: Sequence[Missing], order: Sequence[str]) -> list[Row]:
    """A row a method of ``runs`` and ``missing``. A seed run twice counts once: the last in ``runs`` holds."""
    by_seed: dict[str, dict[int, Run]] = {one.method: {} for one in missing}
    for run in runs:
        by_seed.setdefault(run.record["method"], {})[run.record["seed"]] = run
    own = {method: list(found.values()) for method, found in by_seed.items()}
    measured = {method: _metrics(found) for method, found in own.items()}
    columns = _in_order(measured.values())
    base, full = own.get(BASELINE, []), measured.get(BASELINE, {})
    rows = []
    for method in [name for name in order if name in own] + sorted(own.keys() - set(order)):
        done = {run.record["seed"] for run in own[method]}
        absent = [one for one in missing if one.method == method and one.seed not in done]
        row = _row(method, own[method], absent, base)
        rows.append(_with_metrics(row, measured[method], full, columns))
    return _mark_best(rows)


def columns_of(rows: Iterable[Row]) -> list[Column]:
    """Of all rows, in the order of a table."""
    return list(next((row.cells for row in rows), {}))


def column_notes(columns: Sequence[Column]) -> dict[Column, str]:
    """For each column, the options that tell it from one of the same name; mostly empty."""
    notes = {}
    for column in columns:
        alike = [c for c in columns if c.name == column.name]
        notes[column] = differing([c.options for c in alike])[alike.index(column)]
    return notes


def protocol_notices(columns: Iterable[Column]) -> list[str]:
    """Where one metric was measured by several protocols: a notice that these are never compared."""
    protocols: dict[tuple[str, str, str], set[str]] = {}
    for column in columns:
        protocols.setdefault((column.task, column.dataset, column.metric), set()).add(column.protocol)
    return [
        f"{' '.join(what)} was measured by {len(found)} protocols ({', '.join(sorted(found))}): a column each,"
        " never compared or averaged with one another"
        for what, found in protocols.items()
        if len(found) > 1
    ]


def _metrics(runs: Iterable[Run]) -> Metrics:
    found: dict[Column, dict[int, dict[str, Any]]] = {}
    for run in runs:
        evaluate = json.dumps(run.record["config"].get("evaluate"))
        for metric in run.record["metrics"]:
            options = evaluation_of(evaluate, metric["task"], metric["dataset"])
            what = {key: metric[key] for key in ("task", "dataset", "metric", "protocol")}
            column = Column(**what, items=metric["n"], options=options)
            found.setdefault(column, {})[run.record["seed"]] = metric
    return found


def _in_order(measured: Iterable[Metrics]) -> list[Column]:
    """By task and data set; the metrics of one stand as the records have them."""
    seen = list(dict.fromkeys(column for metrics in measured for column in metrics))
    metrics = list(dict.fromkeys(column.metric for column in seen))

    def place(column: Column) -> tuple[Any, ...]:
        task, metric = TASKS.index(column.task), metrics.index(column.metric)
        return task, column.dataset, metric, column.protocol, column.items, column.options

    return sorted(seen, key=place)


def _row(method: str, runs: list[Run], missing: list[Missing], base: Sequence[Run]) -> Row:
    """The row as far as training goes."""
    asked = len({run.record["seed"] for run in runs}) + len({one.seed for one in missing})
    told = absent_seeds(missing)
    quantities = {
        name: Cell(spread=spread(_training(runs, name).values()), asked=asked, absent=told) for name in QUANTITIES
    }
    if method != BASELINE:
        quantities["seconds"] = replace(quantities["seconds"], ratio=spread(_ratios(runs, base)))
    runs = sorted(runs, key=lambda run: run.record["seed"])
    return Row(method, tuple(runs), tuple(missing), {}, {}, quantities)


def _with_metrics(row: Row, metrics: Metrics, full: Metrics, columns: Sequence[Column]) -> Row:
    values = {column: _values(metrics, column) for column in columns}
    seeds = {run.record["seed"] for run in row.runs}
    training = row.quantities["seconds"]
    cells = {}
    for column in columns:
        items95 = [tuple(metric["ci95"]) for metric in metrics.get(column, {}).values()]
        cells[column] = Cell(
            spread=spread(values[column].values()),
            asked=training.asked,
            difference=paired(values[column], _values(full, column)) if row.method != BASELINE else None,
            items95=items95[0] if len(items95) == 1 else None,
            absent=training.absent,
            unmeasured=_unmeasured(row.runs, seeds - values[column].keys(), column),
        )
    return replace(row, values=values, cells=cells)


def absent_seeds(missing: Iterable[Missing]) -> tuple[str, ...]:
    """``seed 1 failed``, ``seeds 2, 3 not run``: a line a state."""
    by_state: dict[str, list[str]] = {}
    for one in missing:
        by_state.setdefault(one.short_state, []).append("?" if one.seed is None else str(one.seed))
    return tuple(f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)} {state}" for state, seeds in by_state.items())


def _values(metrics: Metrics, column: Column) -> BySeed:
    return {seed: metric["value"] for seed, metric in metrics.get(column, {}).items()}


def _training(runs: Iterable[Run], name: str) -> BySeed:
    return {run.record["seed"]: run.record["training"][name] for run in runs}


def _ratios(runs: Iterable[Run], base: Iterable[Run]) -> list[float]:
    def seconds(runs: Iterable[Run]) -> dict[tuple[int, str, int], float]:
        records = [run.record for run in runs]
        return {(r["seed"], r["device"], r["num_ranks"]): r["training"]["seconds"] for r in records}

    own, full = seconds(runs), seconds(base)
    return [own[key] / full[key] for key in sorted(own.keys() & full.keys()) if full[key] > 0]


def _unmeasured(runs: Iterable[Run], seeds: set[int], column: Column) -> tuple[str, ...]:
    """For each finished seed without a value in the column, why."""
    told: dict[int, str] = {}
    if not seeds:
        return ()
    for run in runs:
        reasons = [s["reason"] for s in run.record["evaluation_skipped"] if _is_why(s, column)]
        if run.record["seed"] in seeds:
            told[run.record["seed"]] = reasons[0] if reasons else "not measured this way"
    return tuple(f"seed {seed} {reason}" for seed, reason in sorted(told.items()))


def _is_why(skipped: Mapping[str, Any], column: Column) -> bool:
    """Whether a skipped evaluation, or set of it, would have given the column; older records tell the task."""
    if skipped["task"] != column.task:
        return False
    if "dataset" in skipped:
        return is_of(skipped["dataset"], column.dataset)
    options = skipped.get("options")
    return options is None or measures(options, column.dataset)


def _mark_best(rows: Sequence[Row]) -> list[Row]:
    """Among the methods other than full, the one a paired test puts above each other; of nats, below."""
    best = {}
    for column in columns_of(rows):
        sign = -1 if column.is_nats else 1
        values = {row.method: row.values[column] for row in rows if row.method != BASELINE}
        best[column] = best_of({name: {s: sign * v for s, v in own.items()} for name, own in values.items()})
    marked = []
    for row in rows:
        cells = {c: replace(cell, is_best=best[c] == row.method) for c, cell in row.cells.items()}
        marked.append(replace(row, cells=cells))
    return marked
