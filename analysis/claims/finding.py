"""What a claim's test hands on: figures, verdict, the runs it rests on, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from analysis.blocks.block import interim_text
from analysis.blocks.statistics import Difference, Interval
from analysis.claims.contrast import Contrast, Part
from analysis.claims.registry import Claim
from analysis.claims.verdicts import NO_RECORDS, SAME, UNRESOLVED
from analysis.read.results import Run
from analysis.tables.cells import interval_text

Number = Callable[[float], str]


@dataclass(frozen=True)
class Gap:
    """Something that a verdict lacks, and the command that fills it."""

    what: str
    command: str


@dataclass(frozen=True)
class Alternative:
    """A claim by another measure than the registry's: shown beside, and decides nothing."""

    name: str
    said: str
    """The verdict in words."""
    line: str
    n: int | None
    mean: float | None
    interval: Interval | None

    @property
    def told(self) -> str:
        return f"by {self.name} in its place: {self.line}, {self.said}"


@dataclass(frozen=True)
class Finding:
    """One claim at one scale."""

    verdict: str
    told: tuple[str, ...] = ()
    """The figures, a sentence each."""
    line: str = ""
    """The one that decides, short."""
    n: int | None = None
    """Seeds; the fewest where several comparisons stand."""
    mean: float | None = None
    """A fraction; of the comparison that is least on the claimed side where there are several."""
    interval: Interval | None = None
    level: float = 0.95
    """Of the interval."""
    margin: float | None = None
    """The smallest effect of interest, a fraction; None for what is no difference between methods."""
    needed: int | None = None
    """Seeds that would settle an effect of that size with 80 % power; None where that cannot be told."""
    covered: tuple[str, ...] = ()
    """Names of the configurations it rests on."""
    of: int = 0
    """How many there are or are planned."""
    planned_seeds: int = 0
    measure: str = ""
    """The registry's, with its data sets."""
    alternatives: tuple[Alternative, ...] = ()
    control: str = ""
    """What SCAN's schedule with random samples does by the same rule; "" for a claim that asks that itself."""
    second: tuple[str, ...] = ()
    """Second opinions on the interval: seeds and items together, the residual pooled over methods."""
    warnings: tuple[str, ...] = ()
    runs: tuple[Run, ...] = ()
    """Those used, and no other."""
    gaps: tuple[Gap, ...] = ()

    @property
    def said(self) -> str:
        """The verdict in words."""
        if self.verdict == SAME and self.margin is not None:
            return f"the same within ±{abs(100 * self.margin):g} points"
        if self.verdict == UNRESOLVED and self.needed is not None and self.needed > (self.n or 0):
            return f"unresolved (would take n ≈ {self.needed})"
        return self.verdict

    @property
    def interim(self) -> str:
        """How much of what was planned it rests on; "" for all of it."""
        if self.verdict == NO_RECORDS or self.n is None:
            return ""
        return interim_text(len(self.covered), self.of, self.n, self.planned_seeds)

    @property
    def lines(self) -> tuple[str, ...]:
        """All sentences in order."""
        beside = [one.told for one in self.alternatives]
        measure = [f"measured by {self.measure}"] if self.measure else []
        control = [self.control] if self.control else []
        interim = [self.interim] if self.interim else []
        return (*interim, *self.warnings, *self.told, *control, *measure, *beside, *self.second)


@dataclass(frozen=True)
class Judged:
    claim: Claim
    at_paper: Finding
    here: Finding


def nothing(part: Part, gaps: Iterable[Gap] = ()) -> Finding:
    told = (f"no seed in common over {len(part.strata)} configurations",) if part.strata else ()
    return Finding(NO_RECORDS, told, gaps=tuple(gaps) if not part.strata else ())


def finding_of(verdict: str, contrast: Contrast, line: str, *told: str) -> Finding:
    """Of a claim that rests on one comparison."""
    found, part = contrast.found, contrast.part
    return Finding(
        verdict,
        (*told, *part.arms_told()),
        line,
        found.n,
        found.mean,
        found.ci95,
        contrast.level,
        covered=part.names,
        runs=part.runs,
        warnings=tuple(warnings_of(contrast)),
    )


def warnings_of(contrast: Contrast) -> list[str]:
    if not contrast.found.is_constant:
        return []
    return [f"{contrast.part.name}: all {contrast.found.n} seeds are equal, so how much they vary is not known"]


def configurations(count: int) -> str:
    return f"{count} configuration{'s' * (count > 1)}"


def seeds_text(found: Difference, number: Number, level: float = 0.95) -> str:
    interval = f", {100 * level:.4g} % interval {interval_text(found.ci95, number)}" if found.ci95 else ""
    return f"{interval} (n = {found.n} seed{'s' * (found.n > 1)})"


def opinions(contrast: Contrast, name: str = "") -> list[str]:
    """What else is known of how sure a difference in points is, a sentence each."""
    told, level = [], f"{100 * contrast.level:.4g} % interval"
    if (pooled := contrast.pooled) is not None:
        about = f"the residual of {pooled.methods} methods ({pooled.df} df, Bartlett p = {pooled.p:.2f})"
        if pooled.is_homoscedastic:
            interval = pooled.beside(contrast.found, contrast.level).ci95
            assert interval is not None
            told.append(f"by {about}: {level} {interval_text(interval)}, sd {100 * pooled.sd:.2f} points")
        else:
            told.append(f"{about} is not pooled: their variances differ")
    if isinstance(crossed := contrast.crossed, str):
        told.append(f"seeds and items together: not known ({crossed})")
    else:
        seeds, items, rest = (f"{100 * share:.0f} %" for share in crossed.shares)
        told.append(
            f"seeds and items together ({crossed.n} × {crossed.items:,}): {level}"
            f" {interval_text(crossed.interval(contrast.level))}; of the variance of the mean seeds are {seeds},"
            f" items {items}, seeds that differ item by item {rest}"
        )
    return [f"{name}: {one}" if name else one for one in told]
