"""Spherical k-means in torch, by faiss's rules, for a GPU: the points may be more than it holds.

Letters in shapes: n training points, K centroids, d embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from baselines import _cost, _gpu

NUDGE = 1 / 1024
"""By which the halves of a cluster are moved apart (faiss)."""


def train(points: np.ndarray, count: int, iterations: int, seed: int, device: torch.device) -> np.ndarray:
    """float32 [n, d] of length 1 -> float32 [K, d] of length 1.

    The first centroids are the points that faiss draws from ``seed``. The device holds ``_gpu.HELD`` bytes of
    points, ``_gpu.ELEMENTS`` products and a few arrays of K d; points beyond that come from the host each time.
    """
    order = np.empty(len(points), dtype=np.int32)
    faiss.rand_perm(faiss.swig_ptr(order), len(points), seed + 1)  # type: ignore[attr-defined]
    centroids = normalize(torch.from_numpy(points[order[:count]]).to(device), dim=1)
    if count == len(points):
        return centroids.cpu().numpy()
    size = max(1, _gpu.ELEMENTS // count)
    parts = _gpu.held((points[start : start + size] for start in range(0, len(points), size)), device)
    rng = np.random.default_rng(seed)
    for _ in _cost.steps("iterations of k-means", range(iterations), iterations):
        sums, sizes = _sums(parts, centroids)
        centroids = normalize(_without_empty(normalize(sums, dim=1), sizes.cpu().numpy(), rng), dim=1)
    return centroids.cpu().numpy()


def _sums(parts: Sequence[Tensor], centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the points nearest to each centroid, float32 [K, d], and how many they are, int64 [K]."""
    sums = torch.zeros_like(centroids)
    sizes = torch.zeros(len(centroids), dtype=torch.int64, device=centroids.device)
    for part in parts:
        rows = part.to(centroids.device)
        which = (rows @ centroids.T).argmax(dim=1)
        counts = which.bincount(minlength=len(centroids))
        # in order of their centroids: adding at indices would add in the order of a GPU's threads
        sums += torch.segment_reduce(rows[which.argsort(stable=True)], "sum", lengths=counts)
        sizes += counts
    return sums, sizes


def _without_empty(centroids: Tensor, sizes: np.ndarray, rng: np.random.Generator) -> Tensor:
    """An empty cluster takes half of one that is drawn in proportion to its points less one, as faiss has it."""
    signs = torch.ones(centroids.shape[1], device=centroids.device)
    signs[1::2] = -1
    for empty in np.flatnonzero(sizes == 0):
        weights = np.maximum(sizes - 1, 0)
        other = int(rng.choice(len(sizes), p=weights / weights.sum()))
        centroids[empty] = centroids[other] * (1 + NUDGE * signs)
        centroids[other] *= 1 - NUDGE * signs
        sizes[empty], sizes[other] = sizes[other] // 2, sizes[other] - sizes[other] // 2
    return centroids
