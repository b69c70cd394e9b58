"""Metrics that some data sets are judged by in place of accuracy: F1, the worst group, mean average precision.

Letters: n images, C classes. Values agree with WILDS (``all_metrics.py``) and clip_benchmark
(``zeroshot_classification.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from benchmark.evaluate.intervals import wilson
from benchmark.runs.record import Metric
from benchmark.seeds import generator

_DRAWS = 200
"""Of the bootstrap over images."""


def judged(
    task: str, name: str, metric: str, place: np.ndarray, first: np.ndarray, labels: np.ndarray,
    groups: Mapping[str, np.ndarray], protocol: str,
) -> Metric:  # fmt: skip
    """``f1_macro``, or ``top1_worst_GROUP`` or ``top5_worst_GROUP``.

    ``place``: int64 [n], where each image's class stands, from 0; ``first``: the class that stands first.
    """
    if metric == "f1_macro":

        def value(rows: np.ndarray) -> float:
            return f1_macro(first[rows], labels[rows])

        return _bootstrapped(task, name, metric, value, len(labels), protocol)
    top, _, kind = metric.partition("_worst_")
    return worst_group(task, name, metric, place < int(top.removeprefix("top")), groups[kind], protocol)


def worst_group(task: str, name: str, metric: str, hits: np.ndarray, group: np.ndarray, protocol: str) -> Metric:
    """The least share of hits in a group that occurs, with Wilson's interval of that group; n counts all images.

    The interval does not tell that the group was chosen for its share.
    """
    _, member, counts = np.unique(group, return_inverse=True, return_counts=True)
    successes = np.bincount(member, weights=hits)
    worst = np.argmin(successes / counts)
    found, count = float(successes[worst]), float(counts[worst])
    return Metric(task, name, metric, found / count, len(hits), wilson(found, count), protocol, hits)


def f1_macro(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The mean of F1 over the classes that occur among ``labels``; one that is never hit has 0."""
    classes = max(int(labels.max()), int(predicted.max())) + 1
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    total = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    occurs = np.unique(labels)
    return float((2 * hits[occurs] / total[occurs]).mean())


def mean_average_precision(
    task: str, name: str, scores: np.ndarray, positives: np.ndarray, protocol: str
) -> Metric:
    """``mean_average_precision``, of ``scores``, [n, C], and ``positives``, int64 [n, C] of 0 and 1."""

    def value(rows: np.ndarray) -> float:
        return float(average_precisions(scores[rows], positives[rows]).mean())

    return _bootstrapped(task, name, "mean_average_precision", value, len(scores), protocol)


def average_precisions(scores: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Of each class the mean precision at the places of its positives, float64 [C]; 0 for one without any.

    Among equal scores the smaller index stands first.
    """
    order = np.argsort(-scores, axis=0, kind="stable")  # [n, C]
    found = np.take_along_axis(positives, order, axis=0)
    precision = np.cumsum(found, axis=0) / np.arange(1, len(scores) + 1)[:, None]
    return (precision * found).sum(axis=0) / np.maximum(found.sum(axis=0), 1)


def _bootstrapped(
    task: str, name: str, metric: str, value: Callable[[np.ndarray], float], n: int, protocol: str
) -> Metric:
    """The value over all images, with the percentiles of what it is over images drawn anew."""
    rng = generator(0, f"bootstrap {metric}")
    drawn = [value(rng.integers(n, size=n)) for _ in range(_DRAWS)]
    found = value(np.arange(n))
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return Metric(task, name, metric, found, n, (min(low, found), max(high, found)), protocol)
