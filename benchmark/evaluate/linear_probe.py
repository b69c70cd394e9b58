"""Linear probe of frozen features: logistic regression whose regularisation a validation split chooses.

The protocol of CLIP (2103.00020, A.3): scikit-learn's L-BFGS with at most 1000 iterations, 97 strengths from
1e-6 to 1e6, 8 a decade, searched coarse to fine on a fifth of the train split; then a fit on the whole of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmark.evaluate import Encoder, Task
from benchmark.evaluate._intervals import mean_per_class, proportion
from benchmark.evaluate._scores import TrainFeatures, test_features, train_features
from benchmark.record import Metric
from benchmark.seeds import generator

STRENGTHS = np.logspace(-6, 6, 97)
"""Lambda, the weight of the squared norm against the summed loss; scikit-learn's C is its inverse."""
COARSE_STEP = 16
"""Two decades: the search starts at 1e-6, 1e-4, ... 1e6 and halves the step round the best down to 1."""
VALIDATION_SHARE = 0.2
MAX_ITERATIONS = 1000


@dataclass(frozen=True, kw_only=True)
class LinearProbe(Task):
    """``top1`` and ``mean_per_class`` on the test split, which the fit never sees."""

    protocol = "linear_probe.lbfgs_standardised.v1"

    dataset: Any
    """Name of a source with labelled splits, or ``{name: options}``."""

    def run(self, encoder: Encoder) -> list[Metric]:
        source = self.source()
        train = source.train_set()
        where = f"linear_probe on {train.name}"
        probe = fit(train_features(encoder, train, where), train.labels)
        test = source.test_set()
        hits = probe.predict(test_features(encoder, test, where)) == test.labels
        return [
            proportion("linear_probe", test.name, "top1", hits, self.protocol),
            mean_per_class("linear_probe", test.name, hits, test.labels, self.protocol),
        ]


@dataclass(frozen=True)
class Probe:
    """A fitted classifier with the scaling of its features."""

    mean: np.ndarray
    scale: np.ndarray
    classifier: LogisticRegression
    strength: float
    """The regularisation it was fitted with, lambda."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """int64 [n]"""
        return self.classifier.predict((features.astype(np.float64) - self.mean) / self.scale)


def fit(features: TrainFeatures, labels: np.ndarray) -> Probe:
    """Choose the strength on a stratified fifth of the given features, then fit on all of them.

    Raises ValueError if no class has two images.
    """
    is_validation = validation_split(labels)
    if not is_validation.any():
        raise ValueError("linear_probe: no class has two training images, so none is left to validate on")
    fitted, held = ~is_validation, is_validation

    def accuracy(index: int) -> float:
        with warnings.catch_warnings():
            # the protocol caps the iterations; a capped candidate is judged by its accuracy like any other
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe = _fit_at(features[fitted], labels[fitted], float(STRENGTHS[index]))
        return float((probe.predict(features[held]) == labels[held]).mean())

    best = search(accuracy, len(STRENGTHS), COARSE_STEP)
    return _fit_at(features, labels, float(STRENGTHS[best]))


def search(accuracy: Callable[[int], float], count: int, step: int) -> int:
    """The best index found from every ``step``-th of ``count``, then by halving the step round the best.

    Of equal accuracies the larger index, the stronger regularisation, is taken.
    """
    found: dict[int, float] = {}
    candidates = list(range(0, count, step))
    while True:
        for index in candidates:
            if index not in found and 0 <= index < count:
                found[index] = accuracy(index)
        best = max(found, key=lambda index: (found[index], index))
        step //= 2
        if step == 0:
            return best
        candidates = [best - step, best + step]


def validation_split(labels: np.ndarray) -> np.ndarray:
    """bool [n]: a fixed fifth of each class, at least one image of a class that has two."""
    raw = generator(0, "linear_probe validation").bit_generator.random_raw(len(labels))
    is_validation = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(raw[rows], kind="stable")]
        is_validation[rows[: min(max(1, round(VALIDATION_SHARE * len(rows))), len(rows) - 1)]] = True
    return is_validation


def _fit_at(features: np.ndarray, labels: np.ndarray, strength: float) -> Probe:
    # DEVIATION(linear_probe): features are scaled to mean 0 and deviation 1 with the statistics of the images
    # fitted on; CLIP feeds them raw, where 1000 iterations do not converge at weak regularisation
    wide = features.astype(np.float64)
    mean, scale = wide.mean(axis=0), wide.std(axis=0)
    scale[scale < 1e-12] = 1.0
    classifier = LogisticRegression(C=1 / strength, max_iter=MAX_ITERATIONS)
    classifier.fit((wide - mean) / scale, labels)
    return Probe(mean, scale, classifier, strength)
