"""Ranks: agreement with a naive definition, ties, blocks; features that are not finite."""

import numpy as np
import pytest
from task_stubs import TableEncoder, image_of

from benchmark.evaluate import unit
from benchmark.evaluate._scores import cosine_blocks, image_features, ranks, text_features


def naive_rank(scores: np.ndarray, is_positive: np.ndarray) -> int:
    order = sorted(range(len(scores)), key=lambda j: (-scores[j], j))
    return next(place for place, j in enumerate(order) if is_positive[j])


def test_ranks_agree_with_a_full_sort_with_ties_and_in_any_block() -> None:
    rng = np.random.default_rng(0)
    # few distinct vectors: many exact ties
    queries = rng.integers(-1, 2, size=(40, 3)).astype(np.float32)
    candidates = rng.integers(-1, 2, size=(60, 3)).astype(np.float32)
    query_group, candidate_group = np.arange(40) % 20, np.arange(60) % 20
    scores = np.round(unit(queries) @ unit(candidates).T, 6)
    expected = [naive_rank(scores[i], candidate_group == query_group[i]) for i in range(40)]
    for most in (1, 60, 61, 7 * 60, 10**6):
        assert ranks(queries, candidates, query_group, candidate_group, most).tolist() == expected


def test_no_block_is_larger_than_asked() -> None:
    blocks = list(cosine_blocks(np.ones((10, 2)), np.ones((6, 2)), most=20))
    assert [scores.shape for _, scores in blocks] == [(3, 6), (3, 6), (3, 6), (1, 6)]
    assert [rows for rows, _ in blocks] == [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 10)]


@pytest.mark.parametrize("width", [1, 7, 64, 300])
def test_equal_embeddings_are_all_ties(width: int) -> None:
    row = np.random.default_rng(width).standard_normal(width).astype(np.float32)
    same = np.tile(row, (101, 1))
    place = ranks(same, same, np.arange(101), np.arange(101))
    assert place.tolist() == list(range(101))


def test_features_that_are_not_finite_are_a_clear_error() -> None:
    encoder = TableEncoder(np.array([[1.0, 0.0], [np.nan, 0.0], [0.0, np.inf]]), {"a": [np.nan]})
    with pytest.raises(ValueError, match=r"knn on toy: 2 of 3 image features are not finite"):
        image_features(encoder, [image_of(i) for i in range(3)], "knn on toy")
    with pytest.raises(ValueError, match=r"retrieval on toy: 1 of 1 text features are not finite"):
        text_features(encoder, ["a"], "retrieval on toy")
