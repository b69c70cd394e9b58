"""Tables as the page shows them: short heads, and the seed count told once and not in every cell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.blocks.block import Block
from analysis.blocks.words import Shown, facts, heads, row_cells, row_notes
from analysis.figures.sections import task_name
from analysis.tables.render import PaperTable

_COUNT = re.compile(r"(?P<before>| \(|, )(?P<count>n = \d+(?: of \d+)?)(?P<after>\)?)$")


TOLD = "{} seeds where a cell does not say another"


@dataclass(frozen=True)
class Numbers:
    """What is told of a block, its cells and what stands under the names of its methods, by method."""

    facts: Sequence[str]
    cells: Mapping[str, Sequence[Shown]]
    notes: Mapping[str, Sequence[str]]


def numbers(block: Block) -> Numbers:
    """What all rows share is told once over the table."""
    cells = {row.method: row_cells(row, block) for row in block.rows}
    usual = _usual_count(shown.note for own in cells.values() for shown in own)
    shared = set.intersection(*(set(row_notes(row)) for row in block.rows))
    protocols = dict.fromkeys(column.protocol for column in block.columns)
    told = [TOLD.format(usual)] if usual else []
    told += [*sorted(shared), *facts(block)] + ([f"protocols {', '.join(protocols)}"] if protocols else [])
    return Numbers(
        told,
        {method: [_without_count(shown, usual) for shown in own] for method, own in cells.items()},
        {row.method: [note for note in row_notes(row) if note not in shared] for row in block.rows},
    )


def short_heads(block: Block) -> dict[str, list]:
    """``heads`` of the columns, what a pointer is ``told`` over each, and their ``labels`` in a card."""
    plain = heads(block)
    quantities = plain[: len(plain) - len(block.columns)]
    shown = [*quantities]
    for column in block.columns:
        task, _, metric = task_name(column).rpartition(", ")
        unit = "nats, less is better" if column.is_nats else "%"
        more = (block.column_notes[column], block.marks.get(column, ""))
        shown.append((task, f"{metric}, {unit}", *filter(None, more)))
    told = ["" for _ in quantities] + [f"{column.name}, {column.items:,} test items" for column in block.columns]
    return {"heads": shown, "told": told, "labels": [" · ".join(lines) for lines in shown]}


def told_once(table: PaperTable) -> PaperTable:
    """The table with its usual seed count among its notes alone."""
    cells = [cell for row in table.rows for cell in row.cells]
    usual = _usual_count(line for cell in cells for line in cell.lines[:1])
    usual = usual or _usual_count(line for cell in cells for line in cell.lines)
    if not usual:
        return table
    rows = tuple(
        replace(row, cells=tuple(replace(cell, lines=_stripped(cell.lines, usual)) for cell in row.cells))
        for row in table.rows
    )
    return replace(table, rows=rows, notes=(*table.notes, TOLD.format(usual)))


def _usual_count(lines: Iterable[str]) -> str:
    """``n = 3``, the seed count that most lines end with."""
    counts = Counter(found["count"] for line in lines if (found := _COUNT.search(line)))
    return counts.most_common(1)[0][0] if counts else ""


def _stripped(lines: Iterable[str], usual: str) -> tuple[str, ...]:
    """Without the usual count, and the same number of seeds where not all asked for are there."""
    told = (usual, usual.split(" of ")[0])

    def strip(line: str) -> str:
        found = _COUNT.search(line)
        if not found or found["count"] not in told:
            return line
        return line[: found.start()] + (found["after"] if found["before"] == ", " else "")

    return tuple(line for line in map(strip, lines) if line)


def _without_count(shown: Shown, usual: str) -> Shown:
    return replace(shown, note="".join(_stripped([shown.note], usual)), lines=_stripped(shown.lines, usual))
