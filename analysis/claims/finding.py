"""What a claim's test hands on: figures, verdict, the runs it rests on, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean

from analysis.blocks.rows import Row
from analysis.blocks.statistics import BySeed, Difference, averaged
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
    arms: dict[str, list[BySeed]] = field(default_factory=dict)
    """Name of a configuration -> what each arm of it has; mostly one."""
    by_note: dict[str, list[BySeed]] = field(default_factory=dict)
    """What tells an arm from another -> what each configuration has in it."""
    runs: list[Run] = field(default_factory=list)
    rival_saw_fewer: bool = False
    """Samples, in a configuration at least: then being above it supports nothing."""
    rival_saw_more: bool = False
    """Then being below it refutes nothing."""
    notes: list[str] = field(default_factory=list)

    def add(self, configuration: Configuration, values: BySeed, rows: Sequence[Row]) -> None:
        if values:
            self.arms.setdefault(configuration.name, []).append(values)
            self.by_note.setdefault(configuration.block.note, []).append(values)
            self.runs += runs_of(rows, values)

    @property
    def strata(self) -> list[BySeed]:
        """One a configuration: each seed's mean over the arms that have it."""
        return [_over_arms(arms) for arms in self.arms.values()]

    def arms_told(self) -> list[str]:
        """Where a configuration has several arms, that they are averaged, and each for itself."""
        several = sum(len(arms) > 1 for arms in self.arms.values())
        if not several:
            return []
        each = [(note or "one", averaged(strata)) for note, strata in self.by_note.items()]
        words = [f"{note}: {points(found.mean)}" for note, found in each if found]
        return [f"arms averaged seed by seed in {configurations(several)} ({'; '.join(words)})"]

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


def _over_arms(arms: Sequence[BySeed]) -> BySeed:
    seeds = sorted({seed for arm in arms for seed in arm})
    return {seed: mean(arm[seed] for arm in arms if seed in arm) for seed in seeds}


def seeds_text(found: Difference, number: Number, level: float = 95) -> str:
    interval = f", {level:g} % interval {interval_text(found.ci95, number)}" if found.ci95 else ""
    return f"{interval} (n = {found.n} seed{'s' * (found.n > 1)})"
