"""Tables as Markdown, LaTeX (booktabs) and CSV. Markdown and LaTeX show percent (or nats), CSV raw fractions."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from analysis.blocks.block import Block, planned_only
from analysis.blocks.rows import QUANTITIES, Cell, Column, Row
from analysis.blocks.words import MISSING, facts, heads, row_cells, row_notes
from analysis.read.results import Foreign, Missing, Results
from analysis.tables.foreign import HEADS, NOTE, foreign_rows
from analysis.tables.render import escape_latex, escape_markdown, pipes
from analysis.tables.truth import AT_RANDOM, SHARES, TOLD, kinds_of, truth_cells, truth_heads, truth_rows

LEGEND = (
    "Means over seeds in percent; sd is the sample standard deviation over seeds (ddof 1), n the number of seeds.",
    "Δ is the paired difference to full over common seeds in percentage points, with its 95 % interval over seeds:"
    " none for one seed, a t interval for 2 to 4, a bootstrap (expanded percentiles) from 5 on.",
    '"over test items" is the 95 % interval of one run over its test items; it says nothing about seeds.',
    "A best value is bold only where a paired t test (at least 3 common seeds, Bonferroni) puts it above"
    " every other method; full takes no part.",
)

LATEX_COLUMNS = 5

CAPTION = (
    "Mean over seeds in percent, with sd and number of seeds n; Δ: paired difference to full over common seeds"
    " in percentage points, with its 95 % interval over seeds (t for n from 2 to 4, bootstrap from 5 on)."
)


def markdown(blocks: Sequence[Block], missing: Sequence[Missing], foreign: Sequence[Foreign] = ()) -> str:
    """All main tables, the legend, models not trained here and the list of missing runs."""
    parts = ["# Main tables", "\n".join(f"- {line}" for line in LEGEND)]
    for block in (block for block in blocks if block.runs):
        table = [pipes(["method", *map(" ".join, heads(block))], escape=True)]
        table.append(pipes(["---", *("---:" for _ in heads(block))]))
        for row in block.rows:
            cells = ["<br>".join(map(escape_markdown, (row.method, *row_notes(row))))]
            for cell in row_cells(row, block):
                first = escape_markdown(cell.first_line)
                lines = [f"**{first}**" if cell.is_best else first, *map(escape_markdown, cell.lines)]
                cells.append("<br>".join(lines))
            table.append(pipes(cells))
        parts += [f"## {escape_markdown(block.title)}", escape_markdown("; ".join(facts(block))), "\n".join(table)]
    if planned := planned_only(blocks):
        parts += ["## Planned, without a record yet", "\n".join(f"- {escape_markdown(line)}" for line in planned)]
    return "\n\n".join([*parts, *_foreign_markdown(foreign), *_missing_markdown(missing)]) + "\n"


def _foreign_markdown(foreign: Sequence[Foreign]) -> list[str]:
    if not foreign:
        return []
    table = [pipes(HEADS), pipes(["---"] * len(HEADS))]
    table += [pipes(row.cells, escape=True) for row in foreign_rows(foreign)]
    return ["## Models not trained here", NOTE, "\n".join(table)]


def truth_markdown(blocks: Sequence[Block]) -> str:
    """What was pruned against planted truth, a table a main table that has any."""
    parts = ["# What was pruned, against planted truth", "\n".join(f"- {escape_markdown(line)}" for line in TOLD)]
    for block in blocks:
        rows = truth_rows(block)
        kinds = kinds_of(rows)
        table = [pipes(["method", "flag", *map(" ".join, truth_heads(kinds))], escape=True)]
        table.append(pipes(["---", "---", *("---:" for _ in truth_heads(kinds))]))
        for row in rows:
            lines = [(cell.first_line, *cell.lines) for cell in truth_cells(row, kinds)]
            cells = ["<br>".join(map(escape_markdown, told)) for told in lines]
            table.append(pipes([escape_markdown(row.method), escape_markdown(row.flag), *cells]))
        if rows:
            parts += [f"## {escape_markdown(block.title)}", "\n".join(table)]
    return "\n\n".join(parts) + "\n"


def _missing_markdown(missing: Sequence[Missing]) -> list[str]:
    if not missing:
        return []
    table = [pipes(["sweep", "run", "state", "command that fills it"]), pipes(["---"] * 4)]
    table += [pipes([m.sweep, m.run, m.state, m.command], escape=True) for m in missing]
    return ["## Missing runs", "\n".join(table)]


def latex(blocks: Sequence[Block]) -> str:
    """``table`` environments, as many a block as its columns need to be read on a page."""
    parts = [r"% \usepackage{booktabs,graphicx} and, for names in other scripts, a Unicode engine"]
    parts += [f"% {line}" for line in LEGEND]
    tables = [
        _latex_table(block, start)
        for block in blocks
        if block.runs
        for start in range(0, len(heads(block)), LATEX_COLUMNS)
    ]
    return "\n\n".join(["\n".join(parts), *tables]) + "\n"


def _latex_table(block: Block, start: int) -> str:
    """The method and the columns from ``start`` on."""
    shown = slice(start, start + LATEX_COLUMNS)
    head = [_stack("b", "r", *lines) for lines in heads(block)[shown]]
    body = []
    for row in block.rows:
        cells = [_stack("t", "l", row.method, *row_notes(row))]
        for cell in row_cells(row, block)[shown]:
            note = [f"({cell.note})"] if cell.note else []
            cells.append(_stack("t", "r", cell.value, *note, *cell.lines, is_bold=cell.is_best))
        body.append(" & ".join(cells) + r" \\ \addlinespace")
    caption = escape_latex(f"{block.title}{', continued' if start else ''}. {CAPTION}")
    lines = [
        r"\begin{table}[htbp]", r"\centering", rf"\caption{{{caption}}}",
        r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * len(head)}}}", r"\toprule",
        " & ".join(["method", *head]) + r" \\", r"\midrule", *body, r"\bottomrule",
        r"\end{tabular}}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines)


def _stack(place: str, side: str, *lines: str, is_bold: bool = False) -> str:
    """Lines over each other, narrow: an interval and what a head tells of its test set get their own."""
    narrow = [part for line in lines for part in re.split(r" (?=\[)|(?<=,) (?=[\d,]+ items)", line)]
    told = [escape_latex(part) for part in narrow]
    if is_bold:
        told[0] = rf"\textbf{{{told[0]}}}"
    rows = r"\\".join(f"{{{part}}}" for part in told)
    return rf"\begin{{tabular}}[{place}]{{@{{}}{side}@{{}}}}{rows}\end{{tabular}}"


def main_frame(blocks: Sequence[Block]) -> pd.DataFrame:
    """A row a (table, method, column), fractions raw; ``state`` and ``absent`` tell of missing ones."""
    rows = []
    for block in blocks:
        for row in block.rows:
            rows += [_frame_row(block, row, cell, column) for column, cell in row.cells.items()]
            for name in QUANTITIES:
                column = Column("training", block.key[2], name, "record", 0, "{}")
                rows.append(_frame_row(block, row, row.quantities[name], column))
    counts = ("test_items", "n", "difference_n", "ratio_n")
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
        "is_best": cell.is_best, "state": state, "absent": "; ".join((*cell.unmeasured, *cell.absent)),
        "runs": " ".join(run.record["run"] for run in row.runs),
    }  # fmt: skip


def values_frame(results: Results) -> pd.DataFrame:
    """A row a (run, metric): what the records say, before any mean."""
    keys = ("sweep", "run", "framework", "model", "pool", "method", "seed")
    rows = []
    for run in results.runs:
        told = {key: run.record[key] for key in keys}
        for metric in run.record["metrics"]:
            low, high = metric["ci95"]
            rows.append({**told, **metric, "ci95": None, "items_ci95_low": low, "items_ci95_high": high})
    columns = [*keys, "task", "dataset", "metric", "protocol", "value", "n", "items_ci95_low", "items_ci95_high"]
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
