"""The products that a GPU takes over give what the host's give; here the CPU stands in for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines import _gpu, neg_clip_loss
from baselines._clusters import cluster
from benchmark.pool.samples import PoolView

CPU = torch.device("cpu")


def unit_vectors(n: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("elements", [1, 100, 1 << 28])
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


@pytest.mark.parametrize("elements", [1, 100, 1 << 28])
def test_the_nearest_centroid_is_that_of_the_host(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gpu, "ELEMENTS", elements)
    rows, centroids = unit_vectors(500, 0), unit_vectors(20, 1)
    largest, which = _gpu.nearest(rows, centroids, CPU)
    assert np.array_equal(which, (rows @ centroids.T).argmax(axis=1))
    np.testing.assert_allclose(largest, (rows @ centroids.T).max(axis=1), atol=1e-6)


def test_methods_choose_the_same_with_these_products(monkeypatch: pytest.MonkeyPatch) -> None:
    features = {"image_embedding": unit_vectors(400, 0), "text_embedding": unit_vectors(400, 1)}
    chosen, groups = [], []
    for device in (None, CPU):
        monkeypatch.setattr(_gpu, "device", lambda device=device: device)
        method = neg_clip_loss.NegClipLoss(keep_fraction=0.5, batch_size=128, partitions=3)
        method.setup(PoolView(400, "test", features), num_epochs=1, seed=0)
        chosen.append(method.plan(0).keep)
        groups.append(cluster(features["image_embedding"], 10, 5, seed=0))
    assert np.array_equal(groups[0].of_sample, groups[1].of_sample)
    assert (chosen[0] == chosen[1]).mean() > 0.99  # scores round to 6 decimals, which a last bit can cross
