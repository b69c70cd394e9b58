"""How runs at work are shown: bars on a terminal; elsewhere, as in a log, lines that stay few.

The first line is of all runs together: how many have ended, and how long the others will take at this rate.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from benchmark.status.table import duration

LINE_SECONDS = 60.0
"""Between two lines in a log on how far the runs are."""
NARROW = 110
"""Columns; a terminal with less shows shares as numbers and not as bars."""


class Shown:
    """Runs by name, from ``start`` to ``end``; ``tick`` now and then."""

    def __init__(self, console: Console, names: Iterable[str]) -> None:
        names = list(names)
        self.console, self.count, self.ended = console, len(names), 0
        self.began = self.told = time.monotonic()
        self.shares: dict[str, float] = {}
        self.texts: dict[str, str] = {}
        self.bars: Progress | None = None
        self.tasks: dict[str, TaskID] = {}
        if console.is_terminal:
            self.bars = _bars(console, max(map(len, names), default=0))
            self.all = self.bars.add_task(f"all runs: {self.overall()}", total=1.0, text="")

    def __enter__(self) -> Shown:
        if self.bars is not None:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars is not None:
            self.bars.stop()

    def overall(self) -> str:
        """``8 of 13, 12 min left``"""
        share, seconds = self.share(), time.monotonic() - self.began
        left = f", {duration(seconds * (1 - share) / share)} left" if 0 < share < 1 else ""
        return f"{self.ended} of {self.count}{left}"

    def share(self) -> float:
        """Of all runs' work, each counted alike."""
        return (self.ended + sum(self.shares.values())) / self.count

    def start(self, name: str) -> None:
        self.shares[name], self.texts[name] = 0.0, "starting"
        if self.bars is not None:
            self.tasks[name] = self.bars.add_task(name, total=1.0, text="starting")
        else:
            self._line(f"started {name}")

    def update(self, name: str, share: float, text: str) -> None:
        """``share`` of its work is done."""
        self.shares[name], self.texts[name] = min(share, 1.0), text
        if self.bars is not None:
            self.bars.update(self.tasks[name], completed=share, text=text)
        self.tick()

    def end(self, name: str, text: str) -> None:
        """``text``: its state."""
        self.shares.pop(name), self.texts.pop(name)
        self.ended += 1
        if self.bars is not None:
            self.bars.update(self.tasks.pop(name), completed=1.0, text=text)
        else:
            self._line(f"{text}: {name} ({self.overall()})")
        self.tick()

    def tick(self) -> None:
        """Tell how far all are, in a log once a minute."""
        if self.bars is not None:
            self.bars.update(self.all, completed=self.share(), description=f"all runs: {self.overall()}")
        elif self.shares and time.monotonic() - self.told >= LINE_SECONDS:
            working = "; ".join(f"{name}: {text}" for name, text in self.texts.items())
            self._line(f"{self.overall()}; {working}")

    def _line(self, text: str) -> None:
        self.told = time.monotonic()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _bars(console: Console, longest: int) -> Progress:
    """Names of up to ``longest`` letters are never cut; what follows them is, where there is no room."""
    whole, rest = Column(no_wrap=True, min_width=longest), Column(no_wrap=True, overflow="ellipsis")
    name = TextColumn("{task.description}", table_column=whole, markup=False)
    text = TextColumn("{task.fields[text]}", table_column=rest, markup=False)
    if console.width >= NARROW:
        return Progress(name, BarColumn(bar_width=24), text, TimeElapsedColumn(), console=console)
    share = TextColumn("{task.percentage:>3.0f}%", table_column=Column(no_wrap=True, min_width=4))
    return Progress(name, share, text, console=console)
