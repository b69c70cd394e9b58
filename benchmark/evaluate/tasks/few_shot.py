"""Few-shot linear probes of frozen features: logistic regression on k images a class, over several draws.

The probe is CLIP's (raw features before the projection, L-BFGS, 97 strengths; 2103.00020, A.3). As in CoOp
(2109.01134), which repeats CLIP's few-shot probes, up to 4 further images a class choose the strength; the final
fit is on the k images alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmark.evaluate.intervals import wilson
from benchmark.evaluate.probes.logistic import SOLVERS, best_strength, fitter
from benchmark.evaluate.protocol import named
from benchmark.evaluate.scores import TrainFeatures, test_features, train_features
from benchmark.evaluate.task import Task
from benchmark.models.encoder import Encoder
from benchmark.options import check_option, require
from benchmark.pool.samples import PoolError
from benchmark.pool.source import TrainSet
from benchmark.runs.record import Metric
from benchmark.seeds import generator

MOST_VALIDATION = 4
DRAWS = 3


@dataclass(frozen=True, kw_only=True)
class FewShot(Task):
    """``top1_1_shot``, ``top1_2_shot``, ...: the mean over the draws on the test split.

    Its interval is Wilson's for one draw's test items, so it is wider than that of the mean, and says nothing of
    the spread over draws. All models are given the same draws, and k images are among the draw's next larger k.
    """

    dataset: Any
    """Name of a source with labelled splits, or ``{name: options}``."""
    shots: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    """Images a class."""
    draws: int = DRAWS
    solver: str = "sklearn"
    """``sklearn``, or ``torch`` for a GPU."""

    def __post_init__(self) -> None:
        require(len(self.shots) > 0, "shots", "a list of counts", self.shots)
        require(all(k >= 1 for k in self.shots), "shots", "at least 1 each", self.shots)
        require(self.draws >= 1, "draws", "at least 1", self.draws)
        check_option("solver", self.solver, SOLVERS)

    @property
    def protocol(self) -> str:
        changed = {"draws": (self.draws, DRAWS), "solver": (self.solver, "sklearn")}
        return named("few_shot.clip_lbfgs_raw", 1, changed)

    def run(self, encoder: Encoder) -> list[Metric]:
        source = self.source()
        train = source.train_set()
        where = f"few_shot on {train.name}"
        self._drawn(train)  # before the work
        train, features = train_features(encoder, train, where, "penultimate")
        drawn = self._drawn(train)
        probes = [[self._fit(features, train.labels, *rows) for rows in draws] for draws in drawn]
        test = source.test_set()
        test, queries = test_features(encoder, test, where, "penultimate")
        found = []
        for k, of_draws in zip(self.shots, probes, strict=True):
            value = float(np.mean([probe.predict(queries) == test.labels for probe in of_draws]))
            interval = wilson(value * len(test.labels), len(test.labels))
            found.append(
                Metric("few_shot", test.name, f"top1_{k}_shot", value, len(test.labels), interval, self.protocol)
            )
        return found

    def check_data(self) -> None:
        super().check_data()
        self._drawn(self.source().train_set())

    def _drawn(self, train: TrainSet) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """A list a number of shots, of a pair a draw. Raises PoolError for too few images of a class."""
        return [
            [draw(train.labels, k, number, train.class_names) for number in range(self.draws)] for k in self.shots
        ]

    def _fit(self, features: TrainFeatures, labels: np.ndarray, shots: np.ndarray, held: np.ndarray) -> Any:
        fit = fitter(features[shots], labels[shots], solver=self.solver, standardise=False)
        return fit(best_strength(fit, features[held], labels[held]))


def draw(labels: np.ndarray, k: int, number: int, class_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of exactly k images of each class to fit on, and of up to 4 others each to validate on: int64 each.

    Raises PoolError for a class of fewer than k images, and if none is left to validate on.
    """
    raw = generator(number, "few_shot draw").bit_generator.random_raw(len(labels))
    shots, held = [], []
    for label in range(len(class_names)):
        rows = np.flatnonzero(labels == label)
        if len(rows) < k:
            raise PoolError(
                f"few_shot: class '{class_names[label]}' has {len(rows)} training images, fewer than {k} shots"
            )
        rows = rows[np.argsort(raw[rows], kind="stable")]
        shots.append(rows[:k])
        held.append(rows[k : k + min(k, MOST_VALIDATION)])
    validation = np.concatenate(held)
    if not len(validation):
        raise PoolError(f"few_shot: with {k} shots no class has an image left to validate on")
    return np.concatenate(shots), validation
