"""A mean over seeds with its interval -> a verdict, by rules that are written down in ``claims.yaml``.

"direction only": the point is on the claimed side, the interval does not settle it. "inconclusive": the point is
on the other side, the interval does not rule the claim out. Fewer seeds than the minimum never settle anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from analysis.blocks.statistics import Difference

SUPPORTED = "supported"
DIRECTION = "direction only"
INCONCLUSIVE = "inconclusive"
NOT_SUPPORTED = "not supported"
NOT_TESTABLE = "not testable at this scale"
VERDICTS = (SUPPORTED, DIRECTION, INCONCLUSIVE, NOT_SUPPORTED, NOT_TESTABLE)

ONE_SIDED = 0.90
"""A one-sided test at 5 % reads one end of the 90 % interval."""


def loses_less(found: Difference, margin: float, minimum_seeds: int) -> str:
    """Whether a loss is smaller than the margin, whatever the gain; ``found.ci95`` holds the 90 % interval."""
    if found.ci95 is not None and found.n >= minimum_seeds:
        if found.ci95[0] > -margin:
            return SUPPORTED
        if found.ci95[1] <= -margin:
            return NOT_SUPPORTED
    return DIRECTION if found.mean > -margin else INCONCLUSIVE


def above(found: Difference, minimum_seeds: int) -> str:
    """Whether a difference is above 0, by the interval that ``found`` holds."""
    if found.ci95 is not None and found.n >= minimum_seeds:
        if found.ci95[0] > 0:
            return SUPPORTED
        if found.ci95[1] < 0:
            return NOT_SUPPORTED
    return DIRECTION if found.mean > 0 else INCONCLUSIVE


def inside(found: Difference, bounds: tuple[float, float], minimum_seeds: int) -> str:
    """Whether a mean lies within bounds."""
    low, high = found.ci95 if found.ci95 is not None else (found.mean, found.mean)
    if found.ci95 is not None and found.n >= minimum_seeds:
        if bounds[0] <= low and high <= bounds[1]:
            return SUPPORTED
        if high < bounds[0] or low > bounds[1]:
            return NOT_SUPPORTED
    return DIRECTION if bounds[0] <= found.mean <= bounds[1] else INCONCLUSIVE


def at_most(found: Difference, bound: float, minimum_seeds: int) -> str:
    """Whether a mean is at most the bound, by the ends of the 90 % interval that ``found`` holds."""
    if found.ci95 is not None and found.n >= minimum_seeds:
        if found.ci95[1] <= bound:
            return SUPPORTED
        if found.ci95[0] > bound:
            return NOT_SUPPORTED
    return DIRECTION if found.mean <= bound else INCONCLUSIVE


def all_of(verdicts: Iterable[str]) -> str:
    """Of a claim that says "each": one part that fails refutes it, and it is as sure as its least sure part."""
    found = set(verdicts)
    order = (NOT_SUPPORTED, NOT_TESTABLE, INCONCLUSIVE, DIRECTION, SUPPORTED)
    return next((verdict for verdict in order if verdict in found), NOT_TESTABLE)


def unsettled(verdict: str) -> str:
    """The most a verdict can be where what the rule asks for is incomplete."""
    return {SUPPORTED: DIRECTION, NOT_SUPPORTED: INCONCLUSIVE}.get(verdict, verdict)
