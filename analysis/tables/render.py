"""Any table of the report -> HTML (by papertables.html), Markdown, LaTeX (booktabs) and rows of a CSV."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.read.results import Run

_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\|*`"} | {"<": "&lt;", ">": "&gt;", "\n": " "})
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
        "−": "$-$", "Δ": r"$\Delta$", "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$",
        "≈": r"$\approx$", "\n": " ",
    }
)  # fmt: skip


def escape_latex(text: str) -> str:
    return text.translate(_LATEX)


def escape_markdown(text: str) -> str:
    return text.translate(_MARKDOWN).replace("](", "]&#40;")


LATEX_COLUMNS = 4
"""Beside the first one; more are continued in another table."""
LATEX_LINES = 44
"""Lines of a page's table; more rows are continued in another one."""


@dataclass(frozen=True)
class PaperCell:
    """Lines over each other, the first is the value; the records it rests on; what a CSV row says of it."""

    lines: tuple[str, ...]
    is_best: bool = False
    is_missing: bool = False
    runs: tuple[Run, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    published: tuple[str, ...] = ()
    """Lines below of what the paper has here, set apart: none of ours."""

    @property
    def sort(self) -> float | None:
        """What a column is sorted by; None for words."""
        value = self.facts.get("mean", self.facts.get("difference"))
        return None if value is None else float(value)


@dataclass(frozen=True)
class PaperRow:
    label: str
    cells: tuple[PaperCell, ...]
    notes: tuple[str, ...] = ()
    group: str = ""
    """Rows of one group stand together under it."""


def text_row(first: str, *others: str) -> PaperRow:
    return PaperRow(first, tuple(PaperCell((other,)) for other in others))


@dataclass(frozen=True)
class PaperTable:
    kind: str
    """``main``, ``coresets``, ``ablations``, ``cost``, …: the section it belongs to."""
    title: str
    first: str
    """Head of the first column."""
    heads: tuple[tuple[str, ...], ...]
    rows: tuple[PaperRow, ...]
    notes: tuple[str, ...] = ()
    is_published: bool = False
    """Numbers of the paper, none of ours."""
    is_text: bool = False
    """Cells are words, set to the left in LaTeX."""
    is_one_grid: bool = False
    """All columns stay together in LaTeX."""


def markdown_of(tables: Iterable[PaperTable], title: str, told: Sequence[str]) -> str:
    parts = [f"# {title}", "\n".join(f"- {escape_markdown(line)}" for line in told)]
    return "\n\n".join(part for part in [*parts, *map(table_markdown, tables)] if part) + "\n"


def table_markdown(table: PaperTable) -> str:
    """One table under its heading."""
    side = "---" if table.is_text else "---:"
    lines = [_pipes(map(escape_markdown, (table.first, *map(" ".join, table.heads))))]
    lines.append(_pipes(["---", *(side for _ in table.heads)]))
    for row in table.rows:
        first = "<br>".join(map(escape_markdown, (_labelled(row), *row.notes)))
        lines.append(_pipes([first, *map(_markdown_cell, row.cells)]))
    parts = [
        f"## {escape_markdown(table.title)}",
        "  \n".join(map(escape_markdown, table.notes)),
        "\n".join(lines),
    ]
    return "\n\n".join(part for part in parts if part)


def _markdown_cell(cell: PaperCell) -> str:
    lines = list(map(escape_markdown, cell.lines))
    if cell.is_best and lines:
        lines[0] = f"**{lines[0]}**"
    return "<br>".join([*lines, *(f"*{escape_markdown(line)}*" for line in cell.published)])


def _labelled(row: PaperRow) -> str:
    return f"{row.group}: {row.label}" if row.group else row.label


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def latex_of(tables: Iterable[PaperTable], told: Sequence[str]) -> str:
    """``table`` environments, as many a table as its columns and rows need to be read on a page."""
    head = [r"% \usepackage{booktabs,graphicx} and, for names in other scripts, a Unicode engine"]
    head += [f"% {' '.join(line.split())}" for line in told]
    parts = []
    for table in tables:
        together = len(table.heads) if table.is_one_grid else LATEX_COLUMNS
        for start in range(0, max(len(table.heads), 1), max(together, 1)):
            shown = slice(start, start + together)
            pages = _pages(table.rows, shown, len(table.heads[shown]) > 2)
            parts += [_latex_table(table, shown, rows, start + i > 0) for i, rows in enumerate(pages)]
    return "\n\n".join(["\n".join(head), *parts]) + "\n"


def _pages(rows: Sequence[PaperRow], shown: slice, is_narrow: bool) -> list[list[PaperRow]]:
    pages: list[list[PaperRow]] = [[]]
    lines = 0
    for row in rows:
        cells = [(row.label, *row.notes), *((*cell.lines, *cell.published) for cell in row.cells[shown])]
        height = max(len(_parts(cell, is_narrow)) for cell in cells) + 1
        if pages[-1] and lines + height > LATEX_LINES:
            pages.append([])
            lines = 0
        pages[-1].append(row)
        lines += height
    return pages


def _latex_table(table: PaperTable, shown: slice, rows: Sequence[PaperRow], is_continued: bool) -> str:
    side = "l" if table.is_text else "r"
    is_narrow = len(table.heads[shown]) > 2
    heads = [_stack("b", side, lines, is_narrow) for lines in table.heads[shown]]
    body, group, count = [], "", len(heads) + 1
    for row in rows:
        if row.group and row.group != group:
            body.append(rf"\multicolumn{{{count}}}{{l}}{{\emph{{{escape_latex(row.group)}}}}} \\")
        group = row.group
        cells = [
            _stack("t", side, cell.lines, is_narrow, cell.is_best, cell.published) for cell in row.cells[shown]
        ]
        first = _stack("t", "l", (row.label, *row.notes), is_narrow)
        body.append(" & ".join([first, *cells]) + r" \\ \addlinespace")
    caption = ". ".join(
        [f"{table.title}{', continued' if is_continued else ''}", *(n.rstrip(".") for n in table.notes)]
    )
    lines = [
        r"\begin{table}[p]", r"\centering\small", rf"\caption{{{escape_latex(caption)}.}}",
        r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{side * len(heads)}}}", r"\toprule",
        " & ".join([escape_latex(table.first), *heads]) + r" \\", r"\midrule", *body, r"\bottomrule",
        r"\end{tabular}}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines)


def _stack(
    place: str,
    side: str,
    lines: Sequence[str],
    is_narrow: bool,
    is_bold: bool = False,
    italic: Sequence[str] = (),
) -> str:
    """Lines over each other, the ``italic`` last."""
    told = [escape_latex(part) for part in _parts(lines, is_narrow)] or [""]
    if is_bold:
        told[0] = rf"\textbf{{{told[0]}}}"
    told += [rf"\textit{{{escape_latex(part)}}}" for part in _parts(italic, is_narrow)]
    rows = r"\\".join(f"{{{part}}}" for part in told)
    return rf"\begin{{tabular}}[{place}]{{@{{}}{side}@{{}}}}{rows}\end{{tabular}}"


def _parts(lines: Sequence[str], is_narrow: bool) -> list[str]:
    """Sentences are broken; in a table of many columns an interval gets a line of its own."""
    pieces = [piece for line in lines for piece in (re.split(r" (?=[\[(])", line) if is_narrow else [line])]
    return [part for piece in pieces for part in _wrapped(piece)]


def _wrapped(text: str, width: int = 44) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def frame_of(tables: Iterable[PaperTable]) -> pd.DataFrame:
    """A row a cell, fractions raw, with the runs it rests on."""
    rows = [
        {
            "kind": table.kind, "table": table.title, "group": row.group, "row": row.label,
            "column": " ".join(head), "shown": " / ".join(cell.lines), "is_best": cell.is_best, **cell.facts,
            "runs": " ".join(run.record["run"] for run in cell.runs),
        }
        for table in tables
        for row in table.rows
        for head, cell in zip(table.heads, row.cells, strict=True)
    ]  # fmt: skip
    first = ["kind", "table", "group", "row", "column", "shown", "is_best"]
    frame = pd.DataFrame(rows, columns=None if rows else [*first, "runs"])
    for name in ("n", "n_difference", "configurations", "configurations_of"):
        if name in frame:
            frame[name] = frame[name].astype("Int64")
    return frame
