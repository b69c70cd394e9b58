"""How many seeds, or test items, a comparison needs to settle a difference that matters."""

from __future__ import annotations

import math

from scipy.special import nctdtr

from analysis.blocks.crossed import Crossed
from analysis.blocks.statistics import t_quantile

POWER = 0.8
MOST = 10_000
"""More seeds or items a data set than anybody runs: told as none."""


def needed_seeds(sd: float, effect: float, level: float) -> int | None:
    """The fewest seeds with which a true ``effect`` is settled with 80 % power; None if no number will do.

    ``sd``: over seeds, of the paired difference; ``level``: of the two-sided interval whose one end decides. The
    power is that of the t test (its noncentral distribution).
    """
    if effect <= 0:
        return None
    low, high = 1, 2
    while _power(high, sd, effect, level) < POWER:
        low, high = high, 2 * high
        if low >= MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, sd, effect, level) >= POWER else (middle, high)
    return high


def needed_items(found: Crossed, effect: float, level: float, seeds: int) -> int | None:
    """Items of the same kinds, in all, with which ``seeds`` seeds would settle ``effect``; None if no number will.

    By what the variances of seeds, items and the rest would then be.
    """
    allowed = (effect / (t_quantile(seeds - 1, level) + t_quantile(seeds - 1, 2 * POWER - 1))) ** 2
    of_seeds, rest = found.of_seeds * found.n / seeds, found.of_rest * found.n / seeds
    if of_seeds >= allowed:
        return None
    return math.ceil(found.items * (found.of_items + rest) / (allowed - of_seeds))


def _power(seeds: int, sd: float, effect: float, level: float) -> float:
    if seeds < 2:
        return 0.0
    if sd <= 0:
        return 1.0
    bound = t_quantile(seeds - 1, level)
    return 1.0 - float(nctdtr(seeds - 1, effect * math.sqrt(seeds) / sd, bound))
