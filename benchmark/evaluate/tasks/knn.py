"""k-nearest-neighbour classification of frozen features, as in InstDisc (1805.01978) and DINO (2104.14294).

The k training images of the largest cosine s vote for their class with weight exp(s / T).

Letters: q queries, m images of the bank, b queries at once, c images of the bank at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.evaluate.intervals import proportion
from benchmark.evaluate.protocol import named
from benchmark.evaluate.scores import DECIMALS, TestFeatures, TrainFeatures, test_features, train_features, unit
from benchmark.evaluate.task import Task
from benchmark.models.encoder import Encoder
from benchmark.options import LATER_OPTION, require
from benchmark.runs.record import Metric

K = 20
TEMPERATURE = 0.07
QUERIES, BANK = 1024, 16384
"""Rows and columns of similarities held at once."""


@dataclass(frozen=True, kw_only=True)
class Knn(Task):
    """``top1`` on the test split by votes of the train split."""

    dataset: Any
    """Name of a source with labelled splits, or ``{name: options}``."""
    k: int = field(default=K, metadata=LATER_OPTION)
    """Neighbours that vote."""
    temperature: float = field(default=TEMPERATURE, metadata=LATER_OPTION)

    def __post_init__(self) -> None:
        require(self.k >= 1, "k", "at least 1", self.k)
        require(self.temperature > 0, "temperature", "above 0", self.temperature)

    @property
    def protocol(self) -> str:
        if (self.k, self.temperature) == (K, TEMPERATURE):
            return "knn.cosine_k20_t007.v1"
        return named(f"knn.cosine_k{self.k}_t{self.temperature:g}", 1)

    def run(self, encoder: Encoder) -> list[Metric]:
        source = self.source()
        train, test = source.train_set(), source.test_set()
        where = f"knn on {test.name}"
        train, bank = train_features(encoder, train, where)
        test, queries = test_features(encoder, test, where)
        predicted = predict(queries, bank, train.labels, self.k, self.temperature)
        return [proportion("knn", test.name, "top1", predicted == test.labels, self.protocol)]


def predict(
    queries: TestFeatures, bank: TrainFeatures, labels: np.ndarray, k: int = K, temperature: float = TEMPERATURE
) -> np.ndarray:
    """The class of most votes for each query, int64 [q]; all of the bank votes where it holds fewer than k.

    Of equally near neighbours the smaller index votes, and of equal votes the smaller class wins.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = torch.from_numpy(unit(queries)).to(device)
    columns = torch.from_numpy(unit(bank)).to(device)
    votes_for = torch.from_numpy(labels).to(device)
    num_classes = int(labels.max()) + 1
    predicted = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(rows), QUERIES):
        scores, index = _neighbours(rows[start : start + QUERIES], columns, min(k, len(bank)))  # [b, k]
        weights = (scores.double() / temperature).exp()
        votes = torch.zeros(len(scores), num_classes, dtype=torch.float64, device=device)
        votes.scatter_add_(1, votes_for[index], weights)
        predicted[start : start + QUERIES] = votes.cpu().numpy().argmax(axis=1)  # the first of equals
    return predicted


def _neighbours(queries: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Rounded cosines and indices of the k nearest, in rising order of index: [b, k] each."""
    scores = torch.empty(len(queries), 0, device=queries.device)
    index = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(bank), BANK):
        part = torch.round(queries @ bank[start : start + BANK].T, decimals=DECIMALS)  # [b, c]
        places = torch.arange(start, start + part.shape[1], device=part.device).expand(len(part), -1)
        scores, index = torch.cat([scores, part], dim=1), torch.cat([index, places], dim=1)
        chosen = nearest(scores, min(k, scores.shape[1]))
        scores, index = scores.gather(1, chosen), index.gather(1, chosen)
    return scores, index


def nearest(scores: Tensor, k: int) -> Tensor:
    """Columns of the k largest scores of each row, of equal ones the first, in rising order: int64 [b, k]."""
    width = scores.shape[1]
    top, columns = scores.topk(min(k + 1, width), dim=1)
    chosen = columns[:, :k].sort(dim=1).values
    if width > k:
        tied = top[:, k - 1] == top[:, k]  # rows in which topk left out an equal of its last
        if tied.any():
            chosen[tied] = _first_of_equals(scores[tied], top[tied, k - 1 : k], k)
    return chosen


def _first_of_equals(scores: Tensor, least: Tensor, k: int) -> Tensor:
    """The columns above the k-th largest score [b, 1], and the first that equal it: int64 [b, k]."""
    above, ties = scores > least, scores == least
    free = k - above.sum(dim=1, keepdim=True)
    chosen = above | (ties & (ties.cumsum(dim=1) <= free))
    return chosen.nonzero()[:, 1].reshape(len(scores), k)
