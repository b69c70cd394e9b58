"""Rows about runs, laid out for who reads them: a terminal of some width, or a program.

Off a terminal every run is a line, for grep. On one, runs that differ in their seed alone share a row, a long list
is cut with a count, and where a table is too wide a run's name, which is never broken, stands above its facts.
"""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from benchmark.plan.plan import PlannedRun

LONG = 40
"""Most rows on a terminal, where not all are asked for."""
CALM = ("done", "running", "queued", "waiting", "partial", "absent")
"""States of which the count says enough."""
NUMBERS = ("epoch", "loss", "samples/s", "left", "attempt", "samples")
SHORT = (*NUMBERS, "state", "resources")
"""Columns whose words stay in one line."""
WORDS = {
    "epoch": "epoch {}",
    "loss": "loss {}",
    "samples/s": "{}/s",
    "left": "{} left",
    "attempt": "attempt {}",
    "samples": "{} samples",
    "waits for": "waits for {}",
}
"""What stands in a line without its column's heading."""
SEEDED = re.compile(r"(.+-s)(\d+)-[0-9a-f]{6}")


@dataclass(frozen=True)
class Row:
    """What is told of a run, or of several."""

    runs: Sequence[PlannedRun]
    name: str
    cells: Sequence[Text]
    """A cell a heading, after that of the name."""


def grouped(runs: Sequence[PlannedRun], console: Console, show_all: bool) -> list[list[PlannedRun]]:
    """Runs that share a row: on a terminal calm ones that differ in their seed alone, else each by itself."""
    if show_all or not console.is_terminal:
        return [[run] for run in runs]
    groups: dict[str, list[PlannedRun]] = defaultdict(list)
    alike = _alike(run.config.name for run in runs)
    for run in runs:
        is_calm = run.state.name in CALM and not run.state.is_incomplete
        groups[alike[run.config.name] if is_calm else run.config.name].append(run)
    return list(groups.values())


def name_of(names: Sequence[str]) -> str:
    """The name, or a pattern that ``--only`` takes: ``clip-RN50-cc3m_plus-scan-s[0-2]-*``."""
    found = [SEEDED.fullmatch(name) for name in names]
    if len(names) == 1 or not all(found):
        return ", ".join(names)
    seeds = sorted(int(match[2]) for match in found if match)
    if seeds[-1] > 9:
        word = "*"
    elif seeds == list(range(seeds[0], seeds[-1] + 1)):
        word = f"[{seeds[0]}-{seeds[-1]}]"
    else:
        word = f"[{''.join(map(str, seeds))}]"
    return f"{found[0][1] if found[0] else ''}{word}-*"


def names_of(names: Iterable[str]) -> str:
    """Several names, those that differ in their seed alone as one."""
    groups: dict[str, list[str]] = defaultdict(list)
    names = list(names)
    for name, key in _alike(names).items():
        groups[key].append(name)
    return ", ".join(map(name_of, groups.values()))


def laid_out(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Row],
    console: Console,
    counts_of: Callable[[Sequence[PlannedRun]], str],
    lines: int | None = None,
) -> Group:
    """A table, or lines where it would be too wide. Of more rows than ``lines`` hold, a count of the rest."""
    is_narrow = console.is_terminal and _width(headings, rows) > console.width
    most = len(rows) if lines is None else max(1, lines // 2 if is_narrow else lines)
    shown, hidden = rows[:most], [run for row in rows[most:] for run in row.runs]
    notes = [Text(f"and {len(hidden)} more: {counts_of(hidden)}; --all shows them")] if hidden else []
    if not is_narrow:
        return Group(_table(title, headings, shown, console), *notes)
    told = [line for row in shown for line in _lines(headings, row, console.width)]
    return Group(Text(title, style="italic"), *told, *notes)


def _alike(names: Iterable[str]) -> dict[str, str]:
    """Name -> what it shares with those that differ in their seed alone; itself where that would be ambiguous."""
    found = {name: SEEDED.fullmatch(name) for name in names}
    seeds: dict[str, list[str]] = defaultdict(list)
    for match in found.values():
        if match:
            seeds[match[1]].append(match[2])
    clear = {key for key, own in seeds.items() if len(set(own)) == len(own)}
    return {name: match[1] if match and match[1] in clear else name for name, match in found.items()}


def _used(headings: Sequence[str], rows: Sequence[Row]) -> list[int]:
    """The columns in which something stands."""
    return [i for i, _ in enumerate(headings) if not rows or any(row.cells[i].plain for row in rows)]


def _width(headings: Sequence[str], rows: Sequence[Row]) -> int:
    """Columns of a terminal that a table needs, in which words are whole and what is short stands in one line."""
    widths = [max((len(row.name) for row in rows), default=0)]
    for i in _used(headings, rows):
        texts = [headings[i], *(row.cells[i].plain for row in rows)]
        parts = texts if headings[i] in SHORT else [word for text in texts for word in text.split()]
        widths.append(max(map(len, parts), default=0))
    return sum(widths) + 2 * len(widths)


def _table(title: str, headings: Sequence[str], rows: Sequence[Row], console: Console) -> Table:
    box = SIMPLE_HEAD if console.is_terminal else None
    table = Table(title=Text(title), title_justify="left", box=box, pad_edge=False)
    table.add_column("run", no_wrap=True)
    for i in _used(headings, rows):
        name = headings[i]
        table.add_column(name, no_wrap=name in SHORT, justify="right" if name in NUMBERS else "left")
    for row in rows:
        table.add_row(row.name, *(row.cells[i] for i in _used(headings, rows)))
    return table


def _lines(headings: Sequence[str], row: Row, width: int) -> list[Text]:
    cells = [(name, cell.plain) for name, cell in zip(headings, row.cells, strict=True) if cell.plain]
    facts = "; ".join(WORDS.get(name, "{}").format(text) for name, text in cells)
    folded = textwrap.wrap(facts, width - 2, break_long_words=False, break_on_hyphens=False)
    style = next((cell.style for cell in row.cells if cell.style), "")
    return [
        Text(line, style if i else "", overflow="ignore", no_wrap=True)
        for i, line in enumerate([row.name, *(f"  {line}" for line in folded)])
    ]
