"""Seeds and test items together: the variance of a mean difference when both are drawn, and its interval.

A difference at seed s on item i is mean + seed_s + item_i + rest_si, all drawn at random: a mixed model with two
crossed random effects. Each seed is measured on each item, so its variances follow from the analysis of variance
(Searle, Casella and McCulloch, *Variance Components*, 1992, chapter 4), which REML agrees with where none is 0.
A t interval over seeds takes the items as given; this one also says what other items of the kind would do.

Letters: n seeds, I items of one data set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.blocks.statistics import Interval, t_quantile


@dataclass(frozen=True)
class Crossed:
    """A mean difference over ``n`` seeds, each measured on the same ``items``, and parts of its variance."""

    n: int
    items: int
    """Of all data sets."""
    mean: float
    of_seeds: float
    """Falls with the number of seeds alone."""
    of_items: float
    """Falls with the number of items alone."""
    of_rest: float
    """Seeds that differ item by item: falls with both."""
    df: float
    """Satterthwaite's, of the sum."""

    @property
    def variance(self) -> float:
        """Of the mean."""
        return self.of_seeds + self.of_items + self.of_rest

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of seeds, items and the rest in the variance of the mean."""
        return self.of_seeds / self.variance, self.of_items / self.variance, self.of_rest / self.variance

    def interval(self, level: float = 0.95) -> Interval:
        half = t_quantile(self.df, level) * math.sqrt(self.variance)
        return self.mean - half, self.mean + half


def crossed(tables: Sequence[np.ndarray]) -> Crossed | None:
    """``tables``: float64 [n, I] a data set; the mean is the sum over data sets of the mean over items.

    None for one seed, a data set of one item, or where nothing varies.
    """
    num_seeds = tables[0].shape[0] if tables else 0
    if num_seeds < 2 or any(table.shape[1] < 2 for table in tables):
        return None
    by_seed = np.sum([table.mean(axis=1) for table in tables], axis=0)  # [n]
    of_items = of_rest = spent = 0.0
    for table in tables:
        num_items = table.shape[1]
        by_item = table.mean(axis=0)  # [I]
        residual = table - by_item - table.mean(axis=1, keepdims=True) + table.mean()
        rest = float((residual**2).sum()) / ((num_seeds - 1) * (num_items - 1)) / (num_seeds * num_items)
        items = float(by_item.var(ddof=1)) / num_items
        if items > rest:
            of_items += items - rest
            spent += items**2 / (num_items - 1) + rest**2 / ((num_seeds - 1) * (num_items - 1))
        of_rest += rest
    over_seeds = max(float(by_seed.var(ddof=1)) / num_seeds, of_rest)  # seeds agree better than that by luck alone
    total = over_seeds + of_items
    if total <= 0:
        return None
    df = total**2 / (over_seeds**2 / (num_seeds - 1) + spent)
    mean, count = float(by_seed.mean()), sum(table.shape[1] for table in tables)
    return Crossed(num_seeds, count, mean, over_seeds - of_rest, of_items, of_rest, df)
