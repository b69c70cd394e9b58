"""What a GPU takes over gives what the host gives; here the CPU stands in for it."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest
import torch

from baselines import _clusters, _gpu, _kmeans, _neighbours, _norm_sim, neg_clip_loss
from baselines._clusters import cluster, largest_before
from baselines._vectors import Joined
from baselines.d2 import D2
from baselines.density import Density
from baselines.prototypes import Prototypes
from baselines.sas import Sas, Similarity, by_row_sum, greedily
from baselines.semdedup import SemDeDup
from benchmark.pool.samples import PoolView
from benchmark.pruner import StaticPruner

CPU = torch.device("cpu")
SIZES = [1, 100, 1 << 28]
"""Products held at once."""


def unit_vectors(n: int, seed: int, groups: int = 0) -> np.ndarray:
    """float32 [n, 16] of length 1, about so many centres if any."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 16)).astype(np.float32)
    if groups:
        rows += 2 * rng.normal(size=(groups, 16)).astype(np.float32)[rng.integers(groups, size=n)]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gpu, "device", lambda: CPU)


def by_faiss(points: np.ndarray, count: int, iterations: int) -> np.ndarray:
    options = {"min_points_per_centroid": 1, "max_points_per_centroid": len(points)}
    kmeans = faiss.Kmeans(points.shape[1], count, niter=iterations, seed=7, spherical=True, **options)
    kmeans.train(points)
    return np.asarray(kmeans.centroids)


@pytest.mark.parametrize("elements", [1000, 1 << 28])
@pytest.mark.parametrize("held", [0, 20_000, 8 << 30])  # on the host, partly on the device, all of it
def test_kmeans_takes_the_steps_of_faiss(elements: int, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gpu, "ELEMENTS", elements)
    monkeypatch.setattr(_gpu, "HELD", held)
    points = unit_vectors(1000, 0, groups=20)
    for iterations in (1, 2, 15):
        found, expected = _kmeans.train(points, 20, iterations, 7, CPU), by_faiss(points, 20, iterations)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("count", [1, 50, 400, 3000])  # the last as many as points
def test_the_mean_cosine_of_kmeans_is_that_of_faiss(count: int) -> None:
    points = unit_vectors(3000, 0, groups=40)
    points[: len(points) // 2] = points[0]  # so that clusters become empty
    found, expected = _kmeans.train(points, count, 20, 7, CPU), by_faiss(points, count, 20)
    mine, theirs = ((points @ centroids.T).max(axis=1).mean() for centroids in (found, expected))
    assert mine == pytest.approx(theirs, rel=0.01)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_an_empty_cluster_takes_half_of_a_large_one() -> None:
    points = np.concatenate([np.tile(unit_vectors(1, 0), (990, 1)), unit_vectors(10, 1)])
    centroids = torch.from_numpy(unit_vectors(5, 2))
    centroids[:4] = torch.from_numpy(points[0])  # one of four alike gets all the points
    _, sizes = _kmeans._sums([torch.from_numpy(points)], centroids)
    assert (sizes == 0).sum() == 3
    parted = _kmeans._without_empty(centroids, sizes.numpy(), np.random.default_rng(0))
    assert (torch.cdist(parted, parted) + torch.eye(5) > 1e-4).all(), "they moved apart"
    assert sizes.sum() == 1000, "halves are counted, none is lost"
    assert (sizes > 0).all()


@pytest.mark.parametrize("elements", SIZES)
@pytest.mark.parametrize("temperature", [0.01, 0.07])
def test_log_sums_are_those_of_the_host(
    elements: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, texts = unit_vectors(300, 0), unit_vectors(300, 1)
    texts[:5] = images[:5]  # cosines of 1: exp(1 / 0.01) is no float32
    expected = neg_clip_loss.log_sums(images, texts, temperature)
    monkeypatch.setattr(_gpu, "ELEMENTS", elements)
    for found, wanted in zip(_gpu.log_sums(images, texts, temperature, CPU), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("elements", SIZES)
def test_the_nearest_centroid_is_that_of_the_host(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gpu, "ELEMENTS", elements)
    rows, centroids = unit_vectors(500, 0), unit_vectors(20, 1)
    largest, which = _gpu.nearest(rows, centroids, CPU)
    assert np.array_equal(which, (rows @ centroids.T).argmax(axis=1))
    np.testing.assert_allclose(largest, (rows @ centroids.T).max(axis=1), atol=1e-6)


@pytest.mark.parametrize("elements", SIZES)
@pytest.mark.parametrize("held", [0, 2000, 8 << 30])
def test_redundancy_is_that_of_the_host(elements: int, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit_vectors(150, 0)
    expected = largest_before(rows)
    monkeypatch.setattr(_gpu, "ELEMENTS", elements)
    monkeypatch.setattr(_gpu, "HELD", held)
    np.testing.assert_allclose(_gpu.largest_before(rows, CPU), expected, atol=0.5001 * 10**-_clusters.DECIMALS)


@pytest.mark.parametrize("elements", SIZES)
@pytest.mark.parametrize("exact_below", [0, 50_000])
def test_neighbours_are_those_of_the_host(
    elements: int, exact_below: int, on_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = Joined(unit_vectors(400, 0, groups=8), unit_vectors(400, 1))
    monkeypatch.setattr(_gpu, "ELEMENTS", elements)
    ids, distances = _neighbours.nearest(features, 5, exact_below, 10, 3, seed=0)
    monkeypatch.setattr(_gpu, "device", lambda: None)
    expected_ids, expected = _neighbours.nearest(features, 5, exact_below, 10, 3, seed=0)
    assert np.array_equal(ids, expected_ids)
    np.testing.assert_allclose(distances, expected, atol=1e-5)


@pytest.mark.parametrize("elements", SIZES)
@pytest.mark.parametrize("threshold", [0.0, 0.3, -1.0])
def test_sas_orders_a_class_as_on_the_host(
    elements: int, threshold: float, on_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = unit_vectors(200, 0, groups=5)
    monkeypatch.setattr(_gpu, "ELEMENTS", elements)
    there = [choose(Similarity(rows, threshold), 80) for choose in (by_row_sum, greedily)]
    sums = Similarity(rows, threshold).sums()
    monkeypatch.setattr(_gpu, "device", lambda: None)
    here = [choose(Similarity(rows, threshold), 80) for choose in (by_row_sum, greedily)]
    np.testing.assert_allclose(sums, Similarity(rows, threshold).sums(), atol=1e-4)
    for mine, expected in zip(there, here, strict=True):
        assert mine.sum() == 80
        assert (mine == expected).mean() > 0.98  # two gains that are equal but for rounding may change places


@pytest.mark.parametrize("held", [0, 8 << 30])
def test_nearness_to_a_target_is_that_of_the_host(
    held: int, on_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, ids, target = unit_vectors(100, 0), np.arange(0, 100, 3), -unit_vectors(30, 1)
    monkeypatch.setattr(_gpu, "HELD", held)
    found = _norm_sim.largest(features, ids, target)
    monkeypatch.setattr(_gpu, "device", lambda: None)
    np.testing.assert_allclose(found, _norm_sim.largest(features, ids, target), atol=2e-6)


@pytest.mark.parametrize(
    "method",
    [
        SemDeDup(keep_fraction=0.5, clusters=10),
        Density(keep_fraction=0.5, clusters=10, duplicate_above=0.99),
        Prototypes(keep_fraction=0.5, clusters=10),
        D2(keep_fraction=0.5, neighbours=3, exact_below=0, cells=10),
        Sas(keep_fraction=0.5, classes=4),
        Sas(keep_fraction=0.5, classes=4, variant="greedy"),
        neg_clip_loss.NegClipLoss(keep_fraction=0.5, batch_size=128, partitions=3),
        neg_clip_loss.NegClipLoss(keep_fraction=0.5, norm_sim="inf"),
    ],
    ids=str,
)
def test_methods_choose_the_same_on_a_device(method: StaticPruner, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {
        "image": unit_vectors(800, 0, groups=10),
        "text": unit_vectors(800, 1),
        "target": unit_vectors(50, 2),
    }
    features: dict[str, Any] = {f"{name}_embedding": array for name, array in arrays.items()}
    chosen, groups = [], []
    for device in (None, CPU):
        monkeypatch.setattr(_gpu, "device", lambda device=device: device)
        pool = PoolView(800, "test", features)
        method.setup(pool, num_epochs=1, seed=0)
        chosen.append(method.select(pool))
        groups.append(cluster(features["image_embedding"], 10, 5, seed=0))
    assert np.array_equal(groups[0].of_sample, groups[1].of_sample)
    assert chosen[1].sum() == 400
    assert (chosen[0] == chosen[1]).mean() > 0.98  # scores are rounded, and a last bit can cross the edge
