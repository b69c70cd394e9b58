"""What a claim's test hands on: figures, verdict, the runs it rests on, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from analysis.blocks.rows import Row
from analysis.blocks.statistics import BySeed, Difference
from analysis.claims.configuration import Configuration, runs_of
from analysis.claims.registry import Claim
from analysis.claims.verdicts import NOT_TESTABLE
from analysis.read.results import Run
from analysis.tables.cells import interval_text

Number = Callable[[float], str]


@dataclass(frozen=True)
class Gap:
    """Something that a verdict lacks, and the command that fills it."""

    what: str
    command: str


@dataclass(frozen=True)
class Finding:
    """One claim at one scale."""

    verdict: str
    told: tuple[str, ...] = ()
    """The figures, a sentence each."""
    n: int | None = None
    """Seeds; the fewest where several comparisons stand."""
    mean: float | None = None
    interval: tuple[float, float] | None = None
    covered: tuple[str, ...] = ()
    """Titles of the configurations it rests on."""
    of: int = 0
    """How many there are."""
    runs: tuple[Run, ...] = ()
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True)
class Judged:
    claim: Claim
    at_paper: Finding
    here: Finding


@dataclass
class Part:
    """One comparison: what each configuration has by seed, and the rows behind it."""

    name: str
    strata: list[BySeed] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    rival_saw_fewer: bool = False
    """Samples, in a configuration at least: then being above it supports nothing."""
    rival_saw_more: bool = False
    """Then being below it refutes nothing."""
    notes: list[str] = field(default_factory=list)

    def add(self, configuration: Configuration, values: BySeed, rows: Sequence[Row]) -> None:
        if values:
            self.strata.append(values)
            self.titles.append(configuration.title)
            self.runs += runs_of(rows, values)


def nothing(part: Part, gaps: Iterable[Gap] = ()) -> Finding:
    told = (f"no seed in common over {len(part.strata)} configurations",) if part.strata else ()
    return Finding(NOT_TESTABLE, told, gaps=tuple(gaps) if not part.strata else ())


def finding_of(verdict: str, part: Part, mean: Difference | None, *told: str) -> Finding:
    n, value, interval = (mean.n, mean.mean, mean.ci95) if mean else (None, None, None)
    return Finding(verdict, told, n, value, interval, tuple(part.titles), runs=tuple(part.runs))


def seeds_text(found: Difference, number: Number, level: float = 95) -> str:
    interval = f", {level:g} % interval {interval_text(found.ci95, number)}" if found.ci95 else ""
    return f"{interval} (n = {found.n} seed{'s' * (found.n > 1)})"
