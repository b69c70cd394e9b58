"""Blocks -> the paper's tables: rows are methods, columns architectures, a table a pool, task and protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from analysis.blocks.block import Block
from analysis.blocks.rows import Column, Row
from analysis.blocks.statistics import averaged, common_seeds, paired_differences
from analysis.blocks.words import control_cell, percent, whole
from analysis.read.methods import FULL, is_variant
from analysis.read.results import Run
from analysis.tables.ablations import ablation_tables
from analysis.tables.cells import (
    HEADLINES,
    TASK_WORDS,
    PublishedValue,
    best_by_budget,
    budgets,
    delta_text,
    difference_facts,
    pruned_share,
    set_beside,
    value_cell,
)
from analysis.tables.coresets import coreset_tables
from analysis.tables.costs import Energy, cost_tables
from analysis.tables.render import PaperCell, PaperRow, PaperTable

TOLD = (
    "Means over seeds in percent; sd over seeds (ddof 1); n is the number of seeds.",
    "Δ is the paired difference to full data over common seeds, in percentage points, with its 95 % interval over"
    " seeds (Student's t): none for one seed, nor where all seeds are equal.",
    "The average over configurations takes the differences seed by seed, over the seeds that all of them have;"
    " its interval is that of the means of the seeds. A configuration where the"
    " task tells nothing of methods is left out of it, by full data alone (analysis/informative.yaml).",
    '"pruned" is measured: 1 − samples seen / samples a full run sees. Where a column holds methods of several'
    " budgets (shares more than 2.5 points apart), every value carries its own.",
    "Best (bold, ★) is marked within one budget only, where a paired t test (at least 3 common seeds, Bonferroni)"
    " puts a method above every other; full data takes no part.",
    '"full, 12 epochs" is full data trained for less than the other runs; its "pruned" is what that saves of the'
    " samples of full data at their length, which stays the reference.",
    "SCAN with other options than the published ones stands in the ablations alone.",
)
"""How to read the tables."""


INFERRED = {
    "finetune.deit_transfer": "inferred: the README of SCAN's MoCo code documents DeiT's fine-tuning, 150 epochs,"
    " alone; this recipe is MoCo v3's for transfer",
}
"""Beginnings of protocols that SCAN's sources do not state, with what is known."""


@dataclass(frozen=True)
class _Panel:
    """What one table compares."""

    framework: str
    pool: str
    column: Column


PublishedOf = Callable[[Block, Column], Mapping[str, PublishedValue]]
"""Label of a method -> what the paper has in its place."""


def paper_tables(
    blocks: Sequence[Block], runs: Sequence[Run], energy: Energy, published_of: PublishedOf = lambda *_: {}
) -> list[PaperTable]:
    """All of them: main, coresets, ablations, cost."""
    by_name = {run.record["run"]: run for run in runs}
    headed = [(block, headline_columns(block)) for block in blocks]
    return [
        *main_tables(headed, [method for block in blocks for method in _methods(block)], published_of),
        *coreset_tables(headed, by_name),
        *ablation_tables(headed),
        *cost_tables(blocks, energy),
    ]


def headline_columns(block: Block) -> list[Column]:
    """The columns of a block that a paper's table shows: all in percent."""
    alike: dict[tuple[object, ...], list[Column]] = {}
    for column in [column for column in block.columns if not column.is_nats]:
        alike.setdefault((column.task, column.dataset, column.protocol, column.items, column.options), []).append(
            column
        )
    shown = []
    for columns in alike.values():
        named = [column for column in columns if column.metric in HEADLINES[column.task]]
        shown += named or columns[:1]
    return shown


def main_tables(
    headed: Sequence[tuple[Block, list[Column]]], order: Sequence[str], published_of: PublishedOf
) -> list[PaperTable]:
    """A table a framework, pool and headline; by framework, pool and task in the order of the blocks."""
    panels: dict[_Panel, list[Block]] = {}
    for block, columns in headed:
        framework, _, pool = block.key[:3]
        for column in columns:
            panels.setdefault(_Panel(framework, pool, column), []).append(block)
    places = {method: i for i, method in reversed(list(enumerate(order)))}
    tables = [_main_table(panel, found, places, published_of) for panel, found in panels.items()]
    return [table for table in tables if table is not None]


def _main_table(
    panel: _Panel, blocks: Sequence[Block], places: dict[str, int], published_of: PublishedOf
) -> PaperTable | None:
    by_block = [{row.method: row for row in block.rows if _takes_part(row)} for block in blocks]
    methods = {m for rows in by_block for m, row in rows.items() if row.values.get(panel.column)}
    if not methods:
        return None
    pruned = {
        m: _mean([pruned_share(rows[m].runs) for rows in by_block if m in rows and rows[m].runs]) for m in methods
    }
    classes = budgets({m: share for m, share in pruned.items() if m != FULL})
    order = sorted(methods, key=lambda m: (m != FULL, classes.get(m, -1), places[m]))
    published = [published_of(block, panel.column) for block in blocks]
    columns = [_column(panel.column, *both, order) for both in zip(by_block, published, strict=True)]
    rows = []
    for i, method in enumerate(order):
        cells = [column[i] for column in columns]
        if len(blocks) > 1:
            cells.append(_average(panel.column, blocks, by_block, method))
        is_told = method == FULL or any("pruned" in line for cell in cells for line in cell.lines)
        rows.append(PaperRow(method, tuple(cells), () if is_told else (f"pruned {percent(pruned[method])} %",)))
    rows += _control_rows(panel.column, blocks)
    heads: list[tuple[str, ...]] = [(b.key[1], *([b.note] if b.note else [])) for b in blocks]
    heads += [("average", f"over {len(blocks)} configurations")] * (len(blocks) > 1)
    column = panel.column
    title = f"{panel.framework} · {panel.pool} · {TASK_WORDS[column.task]} on {column.dataset}, {column.metric}"
    waiting = sorted({row.method for rows in by_block for row in rows.values()} - methods)
    notes = [f"protocol {column.protocol}, {whole(column.items)} test items{_options_note(column)}"]
    notes += [f"{b.key[1]} takes no part in averages: {b.marks[column]}" for b in blocks if column in b.marks]
    beside = [value for values in published for value in values.values()]
    if sources := sorted({(value.source, value.pruned) for value in beside if value.pruned}):
        told = "; ".join(f"{source}, at {percent(pruned)} % pruned" for source, pruned in sources)
        notes.append(f"in italics the paper's own number, in no statistic, and ours less it ({told})")
    notes += [told for beginning, told in INFERRED.items() if column.protocol.startswith(beginning)]
    if waiting:
        notes.append(f"no value yet: {', '.join(waiting[:6])}{', …' if len(waiting) > 6 else ''}")
    return PaperTable("main", title, "method", tuple(heads), tuple(rows), tuple(notes))


def _control_rows(column: Column, blocks: Sequence[Block]) -> list[PaperRow]:
    """A row each of the controls that some block has."""
    found = []
    for name in dict.fromkeys(name for block in blocks for name in block.controls):
        told = [control_cell(name, block, column) for block in blocks]
        cells = [
            PaperCell((one.first_line,), facts={"mean": one.sort}) if one else PaperCell(("—",)) for one in told
        ]
        if any(told):
            found.append(PaperRow(name, (*cells, *[PaperCell(("—",))] * (len(blocks) > 1)), ("control",)))
    return found


def _options_note(column: Column) -> str:
    return "" if column.options == "{}" else f", options {column.options}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _methods(block: Block) -> list[str]:
    return [row.method for row in block.rows]


def _takes_part(row: Row) -> bool:
    return not (row.runs and is_variant(row.runs[0]))


def _column(
    column: Column, rows: dict[str, Row], published: Mapping[str, PublishedValue], order: Sequence[str]
) -> list[PaperCell]:
    """The cells of one architecture, by method in ``order``."""
    measured = {m: rows[m] for m in order if m in rows and rows[m].values.get(column)}
    pruned = {m: pruned_share(row.runs) for m, row in measured.items() if m != FULL}
    classes = budgets(pruned)
    best = best_by_budget({m: measured[m].values[column] for m in pruned}, classes)
    is_mixed = len(set(classes.values())) > 1
    full = measured.get(FULL)
    cells = []
    for method in order:
        row = measured.get(method)
        if row is None:
            cells.append(PaperCell(("missing", *_reasons(rows.get(method), column)), is_missing=True))
            continue
        base = full.values[column] if full and method != FULL else None
        mark = [f"pruned {percent(pruned[method])} %"] if is_mixed and method in pruned else []
        cell = value_cell(row.values[column], base, row.runs, row.cells[column], more=mark, is_best=method in best)
        cell.facts["pruned"] = pruned.get(method, 0.0)
        cells.append(set_beside(cell, published.get(method)))
    return cells


def _reasons(row: Row | None, column: Column) -> tuple[str, ...]:
    if row is None or column not in row.cells:
        return ("not asked for",)
    return (*row.cells[column].unmeasured, *row.cells[column].absent)


def _average(
    column: Column, blocks: Sequence[Block], by_block: Sequence[dict[str, Row]], method: str
) -> PaperCell:
    if method == FULL:
        return PaperCell(("reference",))
    strata, runs = [], list[Run]()
    for block, rows in zip(blocks, by_block, strict=True):
        if method in rows and FULL in rows and column not in block.marks:
            found = paired_differences(rows[method].values.get(column, {}), rows[FULL].values.get(column, {}))
            if found:
                strata.append(found)
                runs += rows[method].runs
    told = f"{len(strata)} of {len(by_block)} configurations"
    mean = averaged(strata)
    if mean is None:
        return PaperCell(("missing", f"no seed in common: {told}" if strata else told), is_missing=True)
    used = set(common_seeds(strata))
    runs = [run for run in runs if run.record["seed"] in used]
    facts = {**difference_facts(mean), "configurations": len(strata), "configurations_of": len(by_block)}
    return PaperCell((delta_text(mean), told), runs=tuple(runs), facts=facts)
