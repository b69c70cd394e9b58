"""Tables as Markdown, LaTeX (booktabs) and CSV. Markdown and LaTeX show percent (or nats), CSV raw fractions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from analysis.blocks.block import Block, planned_only
from analysis.blocks.controls import TOLD as TOLD_OF_CONTROLS
from analysis.blocks.controls import Controls
from analysis.blocks.rows import QUANTITIES, Cell, Column, Row
from analysis.blocks.words import MISSING, control_cells, facts, heads, row_cells, row_notes
from analysis.read.results import Results
from analysis.tables.cells import held_facts
from analysis.tables.foreign import HEADS, NOTE, foreign_rows
from analysis.tables.render import (
    PaperCell,
    PaperRow,
    PaperTable,
    escape_markdown,
    latex_of,
    markdown_of,
    table_markdown,
    text_row,
)
from analysis.tables.truth import AT_RANDOM, SHARES, TOLD, kinds_of, truth_cells, truth_heads, truth_rows

LEGEND = (
    "Means over seeds in percent; sd is the sample standard deviation over seeds (ddof 1), n the number of seeds.",
    "Δ is the paired difference to full over common seeds in percentage points, with its 95 % interval over seeds:"
    " Student's t; none for one seed, nor where all seeds are equal.",
    '"over test items" is the 95 % interval of one run over its test items; it says nothing about seeds.',
    "A best value is bold only where a paired t test (at least 3 common seeds, Bonferroni) puts it above"
    " every other method; full takes no part.",
)

CAPTION = (
    "Mean over seeds in percent, with sd and number of seeds n; Δ: paired difference to full over common seeds"
    " in percentage points, with its 95 % interval over seeds (Student's t)."
)


def legend(blocks: Iterable[Block]) -> tuple[str, ...]:
    """How to read the tables of these blocks."""
    return (*LEGEND, *(TOLD_OF_CONTROLS if any(block.controls for block in blocks) else ()))


def markdown(blocks: Sequence[Block], results: Results) -> str:
    """All main tables, the legend, models not trained here and the list of missing runs."""
    tables = [block_table(b, "; ".join(facts(b))) for b in blocks if b.runs]
    parts = [markdown_of(tables, "Main tables", legend(blocks))]
    if planned := planned_only(blocks):
        parts.append(
            "\n".join(["## Planned, without a record yet", "", *(f"- {escape_markdown(p)}" for p in planned)])
        )
    if results.foreign:
        rows = tuple(text_row(*row.cells) for row in foreign_rows(results.foreign, results.controls))
        parts.append(table_markdown(_text_table("Models not trained here", HEADS, rows, NOTE)))
    if results.missing:
        heads_of = ("sweep", "run", "state", "command that fills it")
        rows = tuple(text_row(m.sweep, m.run, m.state, m.command) for m in results.missing)
        parts.append(table_markdown(_text_table("Missing runs", heads_of, rows)))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def latex(blocks: Sequence[Block]) -> str:
    """``table`` environments, as many a block as its columns and rows need to be read on a page."""
    return latex_of([block_table(block, CAPTION) for block in blocks if block.runs], legend(blocks))


def block_table(block: Block, *notes: str) -> PaperTable:
    """A row a method, a column a metric."""
    rows = tuple(
        PaperRow(
            row.method,
            tuple(PaperCell((c.first_line, *c.lines), is_best=c.is_best) for c in row_cells(row, block)),
            tuple(row_notes(row)),
        )
        for row in block.rows
    )
    rows += tuple(
        PaperRow(name, tuple(PaperCell((cell.first_line,)) for cell in control_cells(name, block)), ("control",))
        for name in block.controls
    )
    return PaperTable("main", block.title, "method", tuple(heads(block)), rows, notes)


def truth_markdown(blocks: Sequence[Block]) -> str:
    """What was pruned against planted truth, a table a main table that has any."""
    tables = []
    for block in blocks:
        rows = truth_rows(block)
        kinds = kinds_of(rows)
        shown = tuple(
            PaperRow(
                f"{row.method}: {row.flag}",
                tuple(PaperCell((cell.first_line, *cell.lines)) for cell in truth_cells(row, kinds)),
            )
            for row in rows
        )
        if rows:
            tables.append(PaperTable("truth", block.title, "method: flag", tuple(truth_heads(kinds)), shown))
    return markdown_of(tables, "What was pruned, against planted truth", TOLD)


def _text_table(title: str, names: Sequence[str], rows: tuple[PaperRow, ...], *notes: str) -> PaperTable:
    return PaperTable("text", title, names[0], tuple((name,) for name in names[1:]), rows, notes, is_text=True)


def main_frame(blocks: Sequence[Block]) -> pd.DataFrame:
    """A row a (table, method, column), fractions raw; ``state`` and ``absent`` tell of missing ones."""
    rows = []
    for block in blocks:
        for row in block.rows:
            rows += [_frame_row(block, row, cell, column) for column, cell in row.cells.items()]
            for name in QUANTITIES:
                column = Column("training", block.key[2], name, "record", 0, "{}")
                rows.append(_frame_row(block, row, row.quantities[name], column))
    counts = ("test_items", "n", "difference_n", "ratio_n", "untrained_n", "gain_kept_n")
    return pd.DataFrame(rows).astype(dict.fromkeys(counts, "Int64") if rows else {})


def _frame_row(block: Block, row: Row, cell: Cell, column: Column) -> dict[str, object]:
    value, delta = cell.spread, cell.difference
    low, high = delta.ci95 if delta and delta.ci95 else (None, None)
    state = MISSING if value is None else "partial" if value.n < cell.asked else "complete"
    return {
        **_block_row(block),
        "method": row.method, "task": column.task, "dataset": column.dataset, "metric": column.metric,
        "protocol": column.protocol, "test_items": column.items or None, "options": column.options,
        "n": value.n if value else 0, "mean": value and value.mean, "sd": value and value.sd,
        "difference_n": delta.n if delta else None, "difference": delta and delta.mean,
        "difference_ci95_low": low, "difference_ci95_high": high,
        "ratio_n": cell.ratio and cell.ratio.n, "ratio": cell.ratio and cell.ratio.mean,
        **held_facts(cell), "is_best": cell.is_best, "state": state,
        "absent": "; ".join((*cell.unmeasured, *cell.absent)),
        "runs": " ".join(run.record["run"] for run in row.runs),
    }  # fmt: skip


def values_frame(results: Results) -> pd.DataFrame:
    """A row a (run, metric): what the records say, before any mean, and what raw pixels have."""
    controls = Controls(results.controls)
    keys = ("sweep", "run", "framework", "model", "pool", "method", "seed")
    rows = []
    for run in results.runs:
        told = {key: run.record[key] for key in keys}
        for metric in run.record["metrics"]:
            low, high = metric["ci95"]
            own = {"ci95": None, "items_ci95_low": low, "items_ci95_high": high, "pixels": controls.pixels(metric)}
            rows.append({**told, **metric, **own})
    columns = [*keys, "task", "dataset", "metric", "protocol", "value", "n", "items_ci95_low", "items_ci95_high"]
    columns += ["pixels"]
    return pd.DataFrame(rows, columns=columns).rename(columns={"n": "test_items"})


def truth_frame(blocks: Sequence[Block]) -> pd.DataFrame:
    """A row a (table, method, flag, share), fractions raw: mean, sd and n over seeds."""
    rows = []
    for block in blocks:
        for truth in truth_rows(block):
            shares = {name: getattr(truth, name) for name in SHARES}
            shares |= {AT_RANDOM[name]: value for name, value in truth.at_random.items()}
            shares |= {f"candidates: {kind}": value for kind, value in truth.candidates.items()}
            told = {**_block_row(block), "method": truth.method, "flag": truth.flag}
            rows += [
                {**told, "share": name, "n": value.n, "mean": value.mean, "sd": value.sd}
                for name, value in shares.items()
                if value is not None
            ]
    columns = ["framework", "model", "pool", "setting", "method", "flag", "share", "n", "mean", "sd"]
    return pd.DataFrame(rows, columns=columns)


def _block_row(block: Block) -> dict[str, str]:
    return dict(zip(("framework", "model", "pool", "setting"), (*block.key[:3], block.note), strict=True))
