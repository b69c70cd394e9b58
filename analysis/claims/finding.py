"""What a claim's test hands on: figures, verdict, the runs it rests on, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean

from analysis.blocks.rows import Row
from analysis.blocks.statistics import BySeed, Difference
from analysis.blocks.words import points
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
    """Names of the configurations it rests on."""
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
    arms: dict[str, list[tuple[str, BySeed]]] = field(default_factory=dict)
    """Name of a configuration -> what tells each arm of it from the others, mostly one, and its values."""
    runs: list[Run] = field(default_factory=list)
    rival_saw_fewer: bool = False
    """Samples, in a configuration at least: then being above it supports nothing."""
    rival_saw_more: bool = False
    """Then being below it refutes nothing."""
    notes: list[str] = field(default_factory=list)

    def add(self, configuration: Configuration, values: BySeed, rows: Sequence[Row]) -> None:
        if values:
            self.arms.setdefault(configuration.name, []).append((configuration.block.note, values))
            self.runs += runs_of(rows, values)

    @property
    def strata(self) -> list[BySeed]:
        """One a configuration: each seed's mean over the arms that have it."""
        return [_over([values for _, values in arms]) for arms in self.arms.values()]

    def arms_told(self) -> list[str]:
        """Where a configuration has several arms: that they are averaged, and each for itself."""
        several = [arms for arms in self.arms.values() if len(arms) > 1]
        by_note: dict[str, list[float]] = {}
        for note, values in (arm for arms in several for arm in arms):
            by_note.setdefault(note, []).append(mean(values.values()))
        words = "; ".join(f"{note}: {points(mean(means))}" for note, means in by_note.items())
        return [f"arms averaged seed by seed in {configurations(len(several))} ({words})"] if several else []

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.arms)


def nothing(part: Part, gaps: Iterable[Gap] = ()) -> Finding:
    told = (f"no seed in common over {len(part.strata)} configurations",) if part.strata else ()
    return Finding(NOT_TESTABLE, told, gaps=tuple(gaps) if not part.strata else ())


def finding_of(verdict: str, part: Part, mean: Difference | None, *told: str) -> Finding:
    n, value, interval = (mean.n, mean.mean, mean.ci95) if mean else (None, None, None)
    runs = {run.folder: run for run in part.runs}  # arms may share their full data
    return Finding(verdict, (*told, *part.arms_told()), n, value, interval, part.names, runs=tuple(runs.values()))


def configurations(count: int) -> str:
    return f"{count} configuration{'s' * (count > 1)}"


def _over(arms: Sequence[BySeed]) -> BySeed:
    seeds = sorted({seed for arm in arms for seed in arm})
    return {seed: mean(arm[seed] for arm in arms if seed in arm) for seed in seeds}


def seeds_text(found: Difference, number: Number, level: float = 95) -> str:
    interval = f", {level:g} % interval {interval_text(found.ci95, number)}" if found.ci95 else ""
    return f"{interval} (n = {found.n} seed{'s' * (found.n > 1)})"
