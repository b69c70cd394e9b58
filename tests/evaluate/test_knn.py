"""k-NN: agreement with a naive vote, fewer neighbours than k, ties, collapse."""

import numpy as np
import pytest
from task_stubs import FixedSource, TableEncoder

from benchmark.evaluate import unit
from benchmark.evaluate.knn import TEMPERATURE, Knn, predict


def naive(queries: np.ndarray, bank: np.ndarray, labels: np.ndarray, k: int) -> list[int]:
    scores = np.round(unit(queries) @ unit(bank).T, 6)
    predicted = []
    for row in scores:
        nearest = sorted(range(len(bank)), key=lambda j: (-row[j], j))[:k]
        votes = [
            sum(np.exp(row[j] / TEMPERATURE) for j in nearest if labels[j] == c) for c in range(labels.max() + 1)
        ]
        predicted.append(int(np.argmax(votes)))
    return predicted


@pytest.mark.parametrize("k", [1, 3, 20, 200])
def test_votes_agree_with_a_naive_count(k: int) -> None:
    rng = np.random.default_rng(k)
    bank, queries = rng.standard_normal((80, 5)), rng.standard_normal((30, 5))
    labels = rng.integers(0, 4, size=80)
    assert predict(queries, bank, labels, k).tolist() == naive(queries, bank, labels, k)


def test_ties_at_the_last_place_go_to_the_smaller_index() -> None:
    bank = np.array([[1.0, 0.0]] * 6)
    assert predict(bank[:1], bank, np.array([2, 2, 1, 1, 1, 1]), k=3).tolist() == [2]


def test_near_neighbours_weigh_more_than_many_far_ones() -> None:
    bank = np.array([[1.0, 0.0]] + [[0.6, 0.8]] * 19)
    assert predict(bank[:1], bank, np.array([0] + [1] * 19)).tolist() == [0]  # e^(0.4/0.07) = 303 > 19


def test_top1_of_a_case_by_hand(evaluate) -> None:  # type: ignore[no-untyped-def]
    source = FixedSource(train_labels=[0, 1], test_labels=[0, 1, 1, 1], class_names=["a", "b"])
    images = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 1.0], [1.0, 3.0], [0.0, 2.0], [9.0, 1.0]])
    found = evaluate(Knn, source, TableEncoder(images))
    assert (found["top1"].value, found["top1"].n) == (0.75, 4)


def test_a_collapsed_model_gets_chance(evaluate) -> None:  # type: ignore[no-untyped-def]
    source = FixedSource(train_labels=list(range(10)) * 4, test_labels=list(range(10)) * 7, class_names=["c"] * 10)
    assert evaluate(Knn, source, TableEncoder(np.full((110, 6), 0.37)))["top1"].value == pytest.approx(0.1)
