"""95 % intervals over test items, and metrics built from them. They say nothing of the spread over seeds."""

from __future__ import annotations

import math

import numpy as np

from benchmark.runs.record import Metric

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def wilson(successes: float, count: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion: inside [0, 1] and of positive width even at 0 and 1."""
    share = min(successes / count, 1.0)
    spread = Z95 * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
    middle = share + Z95**2 / (2 * count)
    scale = 1 + Z95**2 / count
    # at 0 and 1 the ends are exact; rounding must not leave the estimate outside
    low = 0.0 if share == 0 else (middle - spread) / scale
    high = 1.0 if share == 1 else (middle + spread) / scale
    return max(low, 0.0), min(high, 1.0)


def mean_of_proportions(successes: np.ndarray, counts: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The plain mean of C independent proportions and its interval.

    Wilson's at the effective count C^2 / sum(1 / n_c): right where all classes are equally hard, and wider
    than needed where they differ, except where a rare class is much the hardest. In simulations it covered
    94 % and more for equal counts; adding up the classes' own intervals (MOVER) covered 86 % near 0 and 1.
    """
    mean = float((successes / counts).mean())
    effective = len(counts) ** 2 / float((1 / counts).sum())
    return mean, wilson(mean * effective, effective)


def proportion(task: str, dataset: str, metric: str, hits: np.ndarray, protocol: str) -> Metric:
    """The share of true entries of ``hits``, bool [n], with Wilson's interval; the metric keeps the hits."""
    successes, count = int(hits.sum()), len(hits)
    return Metric(task, dataset, metric, successes / count, count, wilson(successes, count), protocol, hits)


def mean(
    task: str, dataset: str, metric: str, values: np.ndarray, protocol: str, items: np.ndarray, most: float
) -> Metric:
    """The mean of ``values``, float [n] from 0 to ``most``, with the normal interval, clipped; it keeps ``items``.

    One value tells of no spread: its interval has no width.
    """
    value, count = float(values.mean()), len(values)
    spread = Z95 * float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    interval = (max(value - spread, 0.0), min(value + spread, most))
    return Metric(task, dataset, metric, value, count, interval, protocol, items)


def mean_per_class(task: str, dataset: str, hits: np.ndarray, labels: np.ndarray, protocol: str) -> Metric:
    """``mean_per_class``: the mean over the classes that occur of the share of their hits; n counts all items."""
    counts = np.bincount(labels)
    successes = np.bincount(labels, weights=hits)
    occurs = counts > 0
    value, interval = mean_of_proportions(successes[occurs], counts[occurs])
    return Metric(task, dataset, "mean_per_class", value, len(labels), interval, protocol, hits)
