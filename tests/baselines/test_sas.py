"""SAS against slow, obvious oracles: the released code's order and the paper's objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines import _vectors, sas
from baselines._clusters import cluster
from baselines.sas import Sas, Similarity, by_row_sum, greedily
from benchmark.pool.samples import PoolView


def vectors(n: int, d: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def chosen(method: Sas, images: np.ndarray, seed: int = 0) -> np.ndarray:
    method.setup(PoolView(len(images), "test", {"image_embedding": images}), num_epochs=1, seed=seed)
    return method.plan(0).keep


def slow_matrix(rows: np.ndarray, threshold: float) -> np.ndarray:
    rows = rows.astype(np.float64)
    matrix = np.zeros((len(rows), len(rows)))
    for i in range(len(rows)):
        for j in range(len(rows)):
            similarity = float(rows[i] @ rows[j])
            matrix[i, j] = similarity if i != j and similarity >= threshold else 0.0
    return matrix


def slow_greedy(matrix: np.ndarray, count: int) -> list[int]:
    """gain(i | S): what i is alike to outside S, less what is lost because it is no longer outside itself."""
    inside: list[int] = []
    for _ in range(count):
        outside = [i for i in range(len(matrix)) if i not in inside]

        def gain(i: int, outside: list[int] = outside) -> float:
            return sum(matrix[i, j] for j in outside) - sum(matrix[i, j] for j in inside)

        inside.append(max(outside, key=lambda i: (round(gain(i), 4), -i)))
    return inside


@pytest.mark.parametrize("whole", [0, 1000])
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.3])
def test_the_official_order_is_that_of_row_sums(
    monkeypatch: pytest.MonkeyPatch, whole: int, threshold: float
) -> None:
    monkeypatch.setattr(sas, "WHOLE", whole)
    monkeypatch.setattr(sas, "ROWS", 7)
    rows = unit(vectors(80))
    sums = [sum(row) for row in slow_matrix(rows, threshold)]
    slow = sorted(range(80), key=lambda i: (-round(sums[i], 4), i))
    for count in (0, 1, 33, 80):
        found = by_row_sum(Similarity(rows, threshold), count)
        assert np.flatnonzero(found).tolist() == sorted(slow[:count])


@pytest.mark.parametrize("whole", [0, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_takes_the_largest_gain_every_time(monkeypatch: pytest.MonkeyPatch, whole: int, seed: int) -> None:
    monkeypatch.setattr(sas, "WHOLE", whole)
    rows = unit(vectors(60, seed=seed))
    for count in (0, 1, 25, 60):
        found = greedily(Similarity(rows, 0.0), count)
        assert np.flatnonzero(found).tolist() == sorted(slow_greedy(slow_matrix(rows, 0.0), count))


def test_greedy_reaches_more_of_the_objective_than_row_sums() -> None:
    rows = unit(vectors(200, 4))
    matrix = slow_matrix(rows, 0.0)
    cut = [
        matrix[keep][:, ~keep].sum()
        for keep in (choose(Similarity(rows, 0.0), 100) for choose in (greedily, by_row_sum))
    ]
    assert cut[0] > cut[1]


@pytest.mark.parametrize("variant", ["official", "greedy"])
def test_every_class_keeps_its_share(variant: str) -> None:
    images, method = vectors(300), Sas(keep_fraction=0.37, classes=7, variant=variant)
    keep = chosen(method, images)
    groups = cluster(images, 7, 100, int(method.rng(0).integers(1 << 31)))
    assert keep.sum() == 111
    for number in range(len(groups.centroids)):
        ids = np.flatnonzero(groups.of_sample == number)
        assert abs(keep[ids].sum() - 0.37 * len(ids)) < 1
        choose = {"official": by_row_sum, "greedy": greedily}[variant]
        kept = choose(Similarity(unit(images)[ids], 0.0), int(keep[ids].sum()))
        assert np.array_equal(keep[ids], kept)


@given(st.integers(1, 60), st.floats(0.02, 1), st.integers(1, 20), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_any_budget_is_met_exactly(n: int, share: float, classes: int, seed: int) -> None:
    for variant in ("official", "greedy"):
        keep = chosen(
            Sas(keep_fraction=share, classes=classes, variant=variant, iterations=5), vectors(n, 3, seed)
        )
        assert keep.sum() == round(share * n)


@pytest.mark.parametrize("variant", ["official", "greedy"])
@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_small_and_odd_pools_meet_the_budget(n: int, variant: str) -> None:
    zeros = vectors(n)
    zeros[: n // 2] = 0
    for images in (vectors(n), zeros, np.tile(vectors(1), (n, 1)), vectors(n, 1)):
        for share in (0.5, 0.9, 1.0):
            for classes in (None, 1, 20):
                one, two = (
                    chosen(Sas(keep_fraction=share, classes=classes, variant=variant), images) for _ in range(2)
                )
                assert one.sum() == round(share * n)
                assert np.array_equal(one, two)


@pytest.mark.parametrize("variant", ["official", "greedy"])
def test_equal_samples_go_by_position(variant: str) -> None:
    keep = chosen(Sas(keep_fraction=0.4, variant=variant), np.tile(vectors(1), (50, 1)))
    assert np.flatnonzero(keep).tolist() == list(range(20))


@pytest.mark.parametrize("variant", ["official", "greedy"])
def test_mapped_half_precision_is_read_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    images = unit(vectors(150, 16)).astype(np.float16)
    whole = chosen(Sas(keep_fraction=0.5, classes=3, variant=variant), images)
    monkeypatch.setattr(_vectors, "BLOCK", 13)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert np.array_equal(chosen(Sas(keep_fraction=0.5, classes=3, variant=variant), mapped), whole)


def test_an_embedding_that_is_not_finite_is_named() -> None:
    images = vectors(50)
    images[31, 2] = np.nan
    with pytest.raises(ValueError, match="the embedding of sample 31 is not finite"):
        chosen(Sas(keep_fraction=0.5), images)


@pytest.mark.parametrize(
    "options",
    [
        *({"keep_fraction": share} for share in (0.0, 1.1)),
        *({"classes": 0}, {"iterations": 0}, {"threshold": 1.5}, {"variant": "lazy"}),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Sas(**{"keep_fraction": 0.5, **options})
