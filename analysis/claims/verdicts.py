"""A mean over seeds with its interval -> a verdict, by rules that are written down in ``claims.yaml``.

A verdict is settled by an interval or not at all: a mean on the claimed side is none. Fewer seeds than the
minimum, or seeds that are all equal, settle nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from analysis.blocks.statistics import Difference

SUPPORTED = "supported"
REFUTED = "refuted"
SAME = "the same"
"""Within plus or minus the smallest effect of interest."""
UNRESOLVED = "unresolved"
NO_RECORDS = "no records"
VERDICTS = (SUPPORTED, REFUTED, SAME, UNRESOLVED, NO_RECORDS)

ONE_SIDED = 0.90
"""A one-sided test at 5 % reads one end of the 90 % interval, two one-sided tests both ends."""


def loses_less(found: Difference, margin: float, minimum_seeds: int) -> str:
    """Whether a loss is smaller than the margin, whatever the gain; ``found.ci95`` holds the 90 % interval."""
    if found.ci95 is not None and found.n >= minimum_seeds:
        if found.ci95[0] > -margin:
            return SUPPORTED
        if found.ci95[1] <= -margin:
            return REFUTED
    return UNRESOLVED


def above(found: Difference, minimum_seeds: int, same: float, bound: float = 0.0) -> str:
    """Whether a difference is above ``bound``, by the interval that ``found`` holds.

    Above 0, a difference whose 90 % interval lies within plus or minus ``same`` is the same, on whichever side.
    """
    if found.ci95 is not None and found.n >= minimum_seeds:
        within = found.at(ONE_SIDED).ci95
        if not bound and within is not None and -same < within[0] and within[1] < same:
            return SAME
        if found.ci95[0] > bound:
            return SUPPORTED
        if found.ci95[1] < bound:
            return REFUTED
    return UNRESOLVED


def inside(found: Difference, bounds: tuple[float, float], minimum_seeds: int) -> str:
    """Whether a mean lies within bounds.

    It is of what was counted, so a schedule that leaves no seed a choice settles it by its one value.
    """
    interval = (found.mean, found.mean) if found.is_constant else found.ci95
    if interval is not None and found.n >= minimum_seeds:
        if bounds[0] <= interval[0] and interval[1] <= bounds[1]:
            return SUPPORTED
        if interval[1] < bounds[0] or interval[0] > bounds[1]:
            return REFUTED
    return UNRESOLVED


def at_most(found: Difference, bound: float, minimum_seeds: int) -> str:
    """Whether a mean is at most the bound, by the ends of the 90 % interval that ``found`` holds."""
    if found.ci95 is not None and found.n >= minimum_seeds:
        if found.ci95[1] <= bound:
            return SUPPORTED
        if found.ci95[0] > bound:
            return REFUTED
    return UNRESOLVED


def all_of(verdicts: Iterable[str]) -> str:
    """Of a claim that says "each": one part that fails refutes it, and it is as sure as its least sure part."""
    found = set(verdicts)
    order = (REFUTED, NO_RECORDS, UNRESOLVED, SAME, SUPPORTED)
    return next((verdict for verdict in order if verdict in found), NO_RECORDS)


def unsettled(verdict: str) -> str:
    """The most a verdict can be where what the rule asks for is incomplete."""
    return verdict if verdict == NO_RECORDS else UNRESOLVED
