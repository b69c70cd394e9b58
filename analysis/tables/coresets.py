"""Blocks -> tables of coresets: static methods side by side at equal budgets alone, SCAN's coresets among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.blocks.block import Block
from analysis.blocks.rows import Column, Row
from analysis.blocks.words import percent, whole
from analysis.read.methods import FULL, is_static, without_budget
from analysis.read.results import Run
from analysis.read.setting import differing
from analysis.tables.cells import TASK_WORDS, best_by_budget, budgets, pruned_share, value_cell, value_text
from analysis.tables.render import PaperCell, PaperRow, PaperTable

EQUAL = 0.01
"""Budgets count as equal within this share of the samples of a full run."""


@dataclass(frozen=True)
class Budget:
    """Static methods that saw equally many samples."""

    pruned: float
    rows: Mapping[tuple[str, str], Row]
    """By ``without_budget``."""


def static_budgets(block: Block, by_name: Mapping[str, Run]) -> list[Budget]:
    """The block's static methods by measured budget, the least pruned first."""
    rows = {row.method: row for row in block.rows if row.runs and is_static(row.runs[0])}
    pruned = {method: pruned_share(row.runs) for method, row in rows.items()}
    groups: dict[int, dict[tuple[str, str], Row]] = {}
    for method, number in budgets(pruned, EQUAL).items():
        groups.setdefault(number, {})[without_budget(rows[method].runs[0], by_name)] = rows[method]
    found = []
    for group in groups.values():
        shares = [pruned[row.method] for row in group.values()]
        found.append(Budget(sum(shares) / len(shares), group))
    return sorted(found, key=lambda budget: budget.pruned)


def coreset_tables(headed: Sequence[tuple[Block, list[Column]]], by_name: Mapping[str, Run]) -> list[PaperTable]:
    """A table a block and headline that has at least two static methods at one budget."""
    tables = []
    for block, columns in headed:
        found = static_budgets(block, by_name)
        for column in columns:
            if any(sum(bool(row.values.get(column)) for row in budget.rows.values()) > 1 for budget in found):
                tables.append(_table(block, column, found))
    return tables


def _table(block: Block, column: Column, found: Sequence[Budget]) -> PaperTable:
    kinds = sorted(
        dict.fromkeys(kind for budget in found for kind in budget.rows), key=lambda k: k[0] != "coreset"
    )
    full = next((row.values.get(column) for row in block.rows if row.method == FULL), None)
    rows = []
    for budget in found:
        values = {str(kind): row.values.get(column, {}) for kind, row in budget.rows.items()}
        best = best_by_budget(values, dict.fromkeys(values, 0))
        cells = []
        for kind in kinds:
            row = budget.rows.get(kind)
            if row is None:
                cells.append(PaperCell(("—",)))
                continue
            cell = value_cell(
                row.values.get(column, {}),
                full,
                row.runs,
                row.cells[column],
                is_best=str(kind) in best,
            )
            cell.facts["pruned"] = budget.pruned
            cells.append(cell)
        rows.append(PaperRow(f"{percent(1 - budget.pruned)} % seen", tuple(cells), (_seen(budget),)))
    measure = f"{TASK_WORDS[column.task]} on {column.dataset}, {column.metric}"
    title = f"{block.title} · coresets at equal budgets: {measure}"
    notes = [
        f"protocol {column.protocol}, {whole(column.items)} test items",
        f"full data, not of these budgets: {value_text(full) if full else 'missing'}; Δ is the difference to it",
    ]
    return PaperTable("coresets", title, "budget", tuple(_heads(kinds)), tuple(rows), tuple(notes))


def _seen(budget: Budget) -> str:
    seen = {run.record["training"]["samples_seen"] for row in budget.rows.values() for run in row.runs}
    low, high = whole(min(seen)), whole(max(seen))
    return f"{low} samples" if low == high else f"{low} to {high} samples"


def _heads(kinds: Sequence[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Names, with the options that tell two of one name apart."""
    heads: list[tuple[str, ...]] = []
    for name, options in kinds:
        alike = [other for known, other in kinds if known == name]
        told = differing(alike)[alike.index(options)] if len(alike) > 1 or name == "coreset" else ""
        if name == "coreset" and not told:
            told = differing([options, "{}"])[0]
        heads.append((name, told.replace("made of = ", "of ")) if told else (name,))
    return heads
