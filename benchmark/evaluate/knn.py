"""k-nearest-neighbour classification of frozen features, as in InstDisc (1805.01978) and DINO (2104.14294).

The k training images of the largest cosine s vote for their class with weight exp(s / T).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.evaluate import Encoder, Task
from benchmark.evaluate._intervals import proportion
from benchmark.evaluate._scores import TestFeatures, TrainFeatures, cosine_blocks, test_features, train_features
from benchmark.record import Metric

K = 20
TEMPERATURE = 0.07


@dataclass(frozen=True, kw_only=True)
class Knn(Task):
    """``top1`` on the test split by votes of the train split."""

    protocol = "knn.cosine_k20_t007.v1"

    dataset: Any
    """Name of a source with labelled splits, or ``{name: options}``."""

    def run(self, encoder: Encoder) -> list[Metric]:
        source = self.source()
        train, test = source.train_set(), source.test_set()
        where = f"knn on {test.name}"
        bank = train_features(encoder, train, where)
        predicted = predict(test_features(encoder, test, where), bank, train.labels)
        return [proportion("knn", test.name, "top1", predicted == test.labels, self.protocol)]


def predict(queries: TestFeatures, bank: TrainFeatures, labels: np.ndarray, k: int = K) -> np.ndarray:
    """The class of most votes for each query, int64 [q]; all of the bank votes where it holds fewer than k.

    Of equally near neighbours the smaller index votes, and of equal votes the smaller class wins.
    """
    num_classes = int(labels.max()) + 1
    predicted = np.empty(len(queries), dtype=np.int64)
    for rows, scores in cosine_blocks(queries, bank):
        neighbours = _nearest(scores, min(k, len(bank)))  # [b, k]
        weights = np.exp(np.take_along_axis(scores, neighbours, axis=1).astype(np.float64) / TEMPERATURE)
        row = np.arange(len(scores))[:, None]
        ballot = (row * num_classes + labels[neighbours]).ravel()
        votes = np.bincount(ballot, weights=weights.ravel(), minlength=len(scores) * num_classes)
        predicted[rows] = votes.reshape(len(scores), num_classes).argmax(axis=1)
    return predicted


def _nearest(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest scores of each row, in rising order of index: int64 [b, k]."""
    least = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]  # the k-th largest score, [b, 1]
    above, ties = scores > least, scores == least
    free = k - above.sum(axis=1, keepdims=True)
    chosen = above | (ties & (ties.cumsum(axis=1) <= free))
    return np.nonzero(chosen)[1].reshape(len(scores), k)
