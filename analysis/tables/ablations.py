"""Blocks -> tables of SCAN's variants and controls: what differs, how much was pruned, what it changed."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.blocks.block import Block
from analysis.blocks.rows import Column, Row
from analysis.blocks.statistics import spread
from analysis.blocks.words import percent, whole
from analysis.read.methods import (
    CONTROL,
    FULL,
    SCAN,
    changed_options,
    is_published_scan,
    pruner_of,
    subject_of,
)
from analysis.tables.cells import TASK_WORDS, pruned_share, value_cell
from analysis.tables.render import PaperCell, PaperRow, PaperTable

SUBJECTS = ("", "which data", "how much", "when", "how directions make one set", "several options")


def ablation_tables(headed: Sequence[tuple[Block, list[Column]]]) -> list[PaperTable]:
    """A table a block that holds a variant of SCAN or its control, all headlines in it."""
    return [table for block, columns in headed if (table := _table(block, columns)) is not None]


def _table(block: Block, columns: Sequence[Column]) -> PaperTable | None:
    known = {row.method: pruner_of(row.runs[0])[0] for row in block.rows if row.runs}
    reference = next((row for row in block.rows if row.runs and is_published_scan(row.runs[0])), None)
    variants = [row for row in block.rows if known.get(row.method) in (SCAN, CONTROL) and row is not reference]
    if not variants:
        return None
    controls = [row for row in block.rows if known.get(row.method) in (FULL, "random_dynamic", "random_subset")]
    rows = [_row(row, "", columns, None, row.method) for row in controls]
    if reference is not None:
        rows.append(_row(reference, "", columns, None, "scan, published options"))
    for row in variants:
        changed = changed_options(row.runs[0])
        words = ", ".join(f"{name} = {value}" for name, value in changed.items())
        label = words if known[row.method] == SCAN else f"{CONTROL}{f', {words}' if words else ''}"
        rows.append(_row(row, subject_of(changed), columns, reference, label))
    rows.sort(key=lambda row: SUBJECTS.index(row.group))
    heads = [("pruned", "% of samples"), ("samples seen",)]
    heads += [(f"{TASK_WORDS[c.task]} {c.dataset}", f"{c.metric}, %", c.protocol) for c in columns]
    notes = (
        "Δ is the paired difference to SCAN with its published options, in percentage points",
        "budgets differ: read each value beside its pruned share; no best is marked",
    )
    title = f"{block.title} · ablations of SCAN"
    return PaperTable("ablations", title, "what differs", tuple(heads), tuple(rows), notes)


def _row(row: Row, group: str, columns: Sequence[Column], reference: Row | None, label: str) -> PaperRow:
    runs = row.runs
    seen = spread(run.record["training"]["samples_seen"] for run in runs)
    assert seen is not None, "only methods with runs stand here"
    pruned = pruned_share(row.runs)
    count = f"(n = {seen.n})"
    cells = [
        PaperCell((f"{percent(pruned)} {count}",), runs=runs, facts={"n": seen.n, "mean": pruned}),
        PaperCell((f"{whole(seen.mean)} {count}",), runs=runs, facts={"n": seen.n, "mean": seen.mean}),
    ]
    for column in columns:
        base = reference.values.get(column) if reference else None
        cell = value_cell(row.values.get(column, {}), base, row.runs, row.cells[column], name="Δ to SCAN")
        cell.facts["pruned"] = pruned
        cells.append(cell)
    return PaperRow(label, tuple(cells), group=group)
