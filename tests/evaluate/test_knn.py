"""k-NN: agreement with a naive vote, fewer neighbours than k, ties, collapse."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from task_stubs import FixedSource, TableEncoder

from benchmark.evaluate.scores import unit
from benchmark.evaluate.tasks import knn
from benchmark.evaluate.tasks.knn import TEMPERATURE, Knn, predict


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


@pytest.mark.parametrize(("queries_at_once", "bank_at_once"), [(1, 1), (7, 3), (4, 33), (100, 1000)])
def test_blocks_of_any_size_give_the_naive_count_with_ties(
    monkeypatch: pytest.MonkeyPatch, queries_at_once: int, bank_at_once: int
) -> None:
    monkeypatch.setattr(knn, "QUERIES", queries_at_once)
    monkeypatch.setattr(knn, "BANK", bank_at_once)
    rng = np.random.default_rng(0)
    bank = rng.integers(-1, 2, size=(90, 3)) + np.array([0.0, 0.0, 5.0])  # 9 distinct rows: ties everywhere
    queries, labels = rng.standard_normal((30, 3)), rng.integers(0, 4, size=90)
    for k in (1, 5, 20):
        assert predict(queries, bank, labels, k).tolist() == naive(queries, bank, labels, k)


def test_neighbours_are_scikit_learns_where_none_are_tied() -> None:
    rng = np.random.default_rng(1)
    bank, queries, labels = rng.standard_normal((300, 16)), rng.standard_normal((100, 16)), np.arange(300) % 5
    theirs = KNeighborsClassifier(20, metric="cosine", weights=lambda d: np.exp((1 - d) / TEMPERATURE))
    assert (predict(queries, bank, labels) == theirs.fit(bank, labels).predict(queries)).all()


def test_k_and_temperature_show_in_the_protocol_and_in_the_votes(evaluate) -> None:  # type: ignore[no-untyped-def]
    assert Knn(dataset="x").protocol == "knn.cosine_k20_t007.v1"
    assert Knn(dataset="x", k=200, temperature=0.1).protocol == "knn.cosine_k200_t0.1.v1"
    source = FixedSource(train_labels=[0, 1, 1], test_labels=[0], class_names=["a", "b"])
    images = np.array([[1.0, 0.0], [0.9, 0.1], [0.9, 0.1], [1.0, 0.0]])
    values = [evaluate(Knn, source, TableEncoder(images), k=k)["top1"].value for k in (1, 3)]
    assert values == [1.0, 0.0]
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        Knn(dataset="x", k=0)
