"""Ranks: agreement with a full sort, ties, blocks of any shape on any device, bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.evaluate import ranks as _ranks
from benchmark.evaluate.ranks import ranks
from benchmark.evaluate.scores import DECIMALS, unit

CPU = torch.device("cpu")


def naive_ranks(scores: np.ndarray, is_positive: np.ndarray) -> list[int]:
    """Sorts every row, ties by index, and looks for the first positive."""
    found = []
    for row, positive in zip(scores, is_positive, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], j))
        found.append(next(place for place, j in enumerate(order) if positive[j]))
    return found


def rounded(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    return np.round(unit(queries) @ unit(candidates).T, DECIMALS)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_groups=st.integers(1, 12),
    most=st.integers(1, 400),
    columns=st.integers(1, 40),
    on_torch=st.booleans(),
)
def test_ranks_agree_with_a_full_sort_with_ties_in_blocks_of_any_shape(
    seed: int, num_groups: int, most: int, columns: int, on_torch: bool
) -> None:
    rng = np.random.default_rng(seed)
    # few distinct vectors: many exact ties; groups are ragged, and some have no query
    queries = rng.integers(-1, 2, size=(rng.integers(1, 20), 3)).astype(np.float32)
    candidates = rng.integers(-1, 2, size=(num_groups + rng.integers(0, 40), 3)).astype(np.float32)
    candidate_group = rng.permutation(np.arange(len(candidates)) % num_groups)
    query_group = rng.integers(0, num_groups, size=len(queries))
    expected = naive_ranks(rounded(queries, candidates), query_group[:, None] == candidate_group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ranks, "COLUMNS_AT_ONCE", columns)
        found = ranks(queries, candidates, query_group, candidate_group, most, CPU if on_torch else None)
    assert found.tolist() == expected


@pytest.mark.parametrize("width", [1, 7, 64, 300])
@pytest.mark.parametrize("device", [None, CPU])
def test_equal_embeddings_are_all_ties(width: int, device: torch.device | None) -> None:
    row = np.random.default_rng(width).standard_normal(width).astype(np.float32)
    same = np.tile(row, (101, 1))
    place = ranks(same, same, np.arange(101), np.arange(101), device=device)
    assert place.tolist() == list(range(101))


def test_numpy_and_torch_agree_on_features_of_a_models_width() -> None:
    rng = np.random.default_rng(3)
    queries, candidates = rng.standard_normal((400, 512)), rng.standard_normal((900, 512))
    groups = np.arange(400), np.arange(900) % 400
    assert (ranks(queries, candidates, *groups) == ranks(queries, candidates, *groups, device=CPU)).all()


def test_memory_does_not_grow_with_the_number_of_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ranks, "COLUMNS_AT_ONCE", 256)
    rng = np.random.default_rng(4)
    features = rng.standard_normal((3000, 4)).astype(np.float32)
    tracemalloc.start()
    ranks(features, features, np.arange(3000), np.arange(3000), most=1 << 14)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20, f"{peak:,} bytes, the whole matrix takes {4 * 3000**2:,}"


def test_a_query_without_positive_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="no positive"):
        ranks(np.ones((2, 1)), np.ones((1, 1)), np.array([0, 1]), np.array([0]))
