"""Methods that cluster embeddings against slow, obvious oracles; planted near-duplicates; odd data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from baselines import _clusters, _vectors, density, prototypes, semdedup
from baselines._clusters import Clusters, cluster, largest_before
from benchmark.pool.samples import PoolView
from benchmark.pruner import StaticPruner

METHODS: list[type[StaticPruner]] = [semdedup.SemDeDup, density.Density, prototypes.Prototypes]


def vectors(n: int, d: int = 8, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


def chosen(method: StaticPruner, features: np.ndarray, seed: int = 0) -> np.ndarray:
    method.setup(PoolView(len(features), "test", {"image_embedding": features}), num_epochs=1, seed=seed)
    return method.plan(0).keep


def groups_of(method: Any, features: np.ndarray, clusters: int) -> Clusters:
    """The clusters that a method works with."""
    return cluster(features, clusters, method.iterations, int(method.rng(0).integers(1 << 31)))


def slow_redundancy(features: np.ndarray, groups: Clusters) -> list[float]:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    found = [0.0] * len(features)
    for number in range(len(groups.centroids)):
        ids = [i for i in range(len(features)) if groups.of_sample[i] == number]
        ids.sort(key=lambda i: (groups.similarity[i], i))  # farthest from the centroid first
        for place, i in enumerate(ids):
            found[i] = max([0.0, *(float(unit[i] @ unit[j]) for j in ids[:place])])
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("clusters", [1, 3, 20])
def test_semdedup_keeps_the_samples_least_like_an_earlier_one(seed: int, clusters: int) -> None:
    features, method = vectors(200, seed=seed), semdedup.SemDeDup(keep_fraction=0.6, clusters=clusters)
    keep = chosen(method, features, seed)
    slow = np.array(slow_redundancy(features, groups_of(method, features, clusters)))
    assert keep.sum() == 120
    assert slow[keep].max() <= slow[~keep].min() + 1e-4


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_semdedup_removes_planted_near_duplicates(share: float) -> None:
    rng, n = np.random.default_rng(0), 3000
    copies = round(share * n)
    originals = vectors(n - copies, 64)
    near = originals[rng.choice(len(originals), copies, replace=False)] + 0.02 * vectors(copies, 64, seed=1)
    order = rng.permutation(n)
    features = np.concatenate([originals, near])[order]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    pairs = np.triu(unit @ unit.T, k=1) > 0.9
    dropped = ~chosen(semdedup.SemDeDup(keep_fraction=1 - copies / n), features)
    # of each pair one is dropped, whichever comes later in its cluster
    hits = sum(1 for i, j in np.argwhere(pairs) if dropped[i] != dropped[j])
    assert pairs.sum() == copies
    assert hits / copies > 0.95  # recall
    in_pair = pairs.any(axis=0) | pairs.any(axis=1)
    assert in_pair[dropped].mean() > 0.95  # precision


@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (3, 2), (7, 5), (64, 64)])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, columns: int, rows: int) -> None:
    unit = vectors(40)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    slow = [max([0.0, *(float(unit[i] @ unit[j]) for j in range(i))]) for i in range(40)]
    monkeypatch.setattr(_clusters, "COLUMNS", columns)
    monkeypatch.setattr(_clusters, "ROWS", rows)
    assert np.allclose(largest_before(unit), slow, atol=1e-4)
    monkeypatch.setattr(_vectors, "BLOCK", rows)
    joined = np.concatenate([block for _, block in _vectors.blocks(unit)])
    assert np.allclose(joined, unit, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_density_solves_the_published_programme(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 60, 12)
    values, count = rng.random(12), int(sizes.sum() * 0.6)
    powers = np.exp(values / 0.5)
    wish = count * powers / powers.sum()
    least = np.minimum(np.floor(count / 12 * 0.5), sizes - 1)
    solved = minimize(
        lambda x: ((x - wish) ** 2).sum(),
        np.clip(wish, least, sizes),
        jac=lambda x: 2 * (x - wish),
        bounds=list(zip(least, sizes, strict=True)),
        constraints={"type": "eq", "fun": lambda x: x.sum() - count},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    found = density.shares(values, sizes, count, 0.5, 0.5)
    assert found.sum() == count
    assert np.abs(found - solved.x).max() < 1 + 1e-3  # ours are whole numbers


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    share=st.floats(0.01, 1),
    balance=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
@settings(max_examples=200, deadline=None)
def test_density_meets_any_budget_exactly(sizes: list[int], share: float, balance: float, seed: int) -> None:
    array, count = np.array(sizes), round(share * sum(sizes))
    found = density.shares(np.random.default_rng(seed).random(len(sizes)), array, count, 0.5, balance)
    assert found.sum() == count
    assert (found >= 0).all()
    assert (found <= array).all()


@pytest.mark.parametrize("seed", range(4))
def test_density_takes_the_farthest_of_each_cluster(seed: int) -> None:
    features, method = vectors(200, seed=seed), density.Density(keep_fraction=0.5, clusters=7)
    keep, groups = chosen(method, features, seed), groups_of(method, features, 7)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    values = []
    for number, centroid in enumerate(groups.centroids):
        within = np.mean([1 - unit[i] @ centroid for i in np.flatnonzero(groups.of_sample == number)])
        others = [1 - float(centroid @ c) for k, c in enumerate(groups.centroids) if k != number]
        values.append(within * np.mean(sorted(others)[:20]))
    assert np.allclose(density.complexity(groups), values, atol=1e-4)
    budget = density.shares(density.complexity(groups), groups.sizes, 100, 0.5, 0.5)
    for number in range(len(groups.centroids)):
        ids = sorted(np.flatnonzero(groups.of_sample == number), key=lambda i: (groups.similarity[i], i))
        assert np.flatnonzero(keep & (groups.of_sample == number)).tolist() == sorted(ids[: budget[number]])


def test_density_can_be_given_a_pool_without_duplicates() -> None:
    features = np.repeat(vectors(60), 2, axis=0)
    keep = chosen(density.Density(keep_fraction=0.4, duplicate_above=0.999), features)
    assert keep.sum() == 48
    assert keep.reshape(60, 2).sum(axis=1).max() == 1
    with pytest.raises(ValueError, match="leaves 60 samples, not the 72 to keep"):
        chosen(density.Density(keep_fraction=0.6, duplicate_above=0.999), features)


@pytest.mark.parametrize("keep_hard", [True, False])
def test_prototypes_keeps_a_least_share_of_each_cluster_then_goes_by_distance(keep_hard: bool) -> None:
    features = vectors(300)
    method = prototypes.Prototypes(keep_fraction=0.4, clusters=6, keep="hard" if keep_hard else "easy")
    keep, groups = chosen(method, features), groups_of(method, features, 6)
    distance = (1 - groups.similarity) * (1 if keep_hard else -1)
    expected: set[int] = set()
    for number in range(6):
        ids = np.flatnonzero(groups.of_sample == number)
        expected |= {int(i) for i in sorted(ids, key=lambda i: (-distance[i], i))[:10]}  # half of 120 / 6
    for i in sorted(range(300), key=lambda i: (-distance[i], i)):
        if len(expected) < 120:
            expected.add(i)
    assert set(np.flatnonzero(keep).tolist()) == expected


@pytest.mark.parametrize("cls", METHODS)
@pytest.mark.parametrize("keep_fraction", [0.1, 0.5, 1.0])
@pytest.mark.parametrize(
    "features",
    [
        vectors(7),  # fewer samples than clusters
        np.tile(vectors(1), (50, 1)),  # all the same
        np.concatenate([np.zeros((5, 8), np.float32), vectors(45)]),
        vectors(50, dtype=np.float16) * 100,
        vectors(50, d=1),
    ],
    ids=["few", "same", "zeros", "half", "line"],
)
def test_odd_data_meets_the_budget_and_is_repeatable(cls: Any, features: np.ndarray, keep_fraction: float) -> None:
    for clusters in (None, 1, 20):
        method = cls(keep_fraction=keep_fraction, clusters=clusters)
        keep = chosen(method, features)
        assert keep.sum() == round(keep_fraction * len(features))
        assert np.array_equal(keep, chosen(cls(keep_fraction=keep_fraction, clusters=clusters), features))


@pytest.mark.parametrize("cls", METHODS)
def test_an_embedding_that_is_not_finite_is_named(cls: Any) -> None:
    features = vectors(50)
    features[31, 2] = np.nan
    with pytest.raises(ValueError, match="the embedding of sample 31 is not finite"):
        chosen(cls(keep_fraction=0.5), features)


@pytest.mark.parametrize("cls", METHODS)
@pytest.mark.parametrize(
    "options", [{"keep_fraction": 0.0}, {"keep_fraction": 1.1}, {"clusters": 0}, {"keep": "best"}]
)
def test_a_wrong_option_is_refused(cls: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        cls(**{"keep_fraction": 0.5, **options})
