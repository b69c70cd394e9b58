"""Means over seeds, paired differences and their t intervals. The unit of replication is the training seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

LEAST_SEEDS_FOR_BEST = 3
"""With two seeds an arm wins on all of them by chance too often for a "better than"."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Spread:
    """A mean over ``n`` seeds."""

    n: int
    mean: float
    sd: float | None
    """Sample standard deviation (ddof 1) over seeds; None for one seed."""


@dataclass(frozen=True)
class Difference:
    """Mean over the ``n`` common seeds of (value - baseline), seed by seed."""

    n: int
    mean: float
    ci95: Interval | None
    """t interval over seeds; None for one seed."""


def spread(values: Iterable[float]) -> Spread | None:
    """Mean, n and sd over seeds; None without a value."""
    array = np.fromiter(values, dtype=np.float64)
    if len(array) == 0:
        return None
    return Spread(len(array), float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None)


def t_interval(values: Iterable[float], level: float = 0.95) -> Interval | None:
    """Two-sided Student t interval for the mean; None for fewer than two values."""
    over_seeds = spread(values)
    if over_seeds is None or over_seeds.sd is None:
        return None
    quantile = float(stdtrit(over_seeds.n - 1, 0.5 + level / 2))
    half = quantile * over_seeds.sd / math.sqrt(over_seeds.n)
    return over_seeds.mean - half, over_seeds.mean + half


def paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """Difference over the common seeds; None if there is no common seed."""
    differences = [values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys())]
    over_seeds = spread(differences)
    if over_seeds is None:
        return None
    return Difference(over_seeds.n, over_seeds.mean, t_interval(differences))


def best_of(values: Mapping[str, Mapping[int, float]]) -> str | None:
    """The one name that beats each other name in a paired t test, or None.

    Every comparison needs ``LEAST_SEEDS_FOR_BEST`` common seeds and a t interval above 0 at the level
    1 - 0.05 / (number of comparisons), Bonferroni's.
    """
    for name, own in values.items():
        rivals = [other for rival, other in values.items() if rival != name]
        if rivals and all(_beats(own, other, 1 - 0.05 / len(rivals)) for other in rivals):
            return name
    return None


def _beats(own: Mapping[int, float], other: Mapping[int, float], level: float) -> bool:
    differences = [own[seed] - other[seed] for seed in own.keys() & other.keys()]
    interval = t_interval(differences, level)
    return len(differences) >= LEAST_SEEDS_FOR_BEST and interval is not None and interval[0] > 0
