"""Plain versions of what the papers of static methods describe: whole arrays in memory, a step after the other.

What ``perf/baselines.py`` measures our methods against. Each reads a folder of embeddings and returns what it
keeps, bool [N]. Clusters are trained on all samples with faiss's defaults, so they are not those of our methods.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

KEEP = 0.7


def load(folder: Path, name: str, samples: int | None = None) -> np.ndarray:
    """float32 [N, d] of length 1, all in memory."""
    rows = np.load(folder / f"{name}_embedding.npy")[:samples].astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def top(score: np.ndarray, share: float = KEEP) -> np.ndarray:
    keep = np.zeros(len(score), dtype=bool)
    keep[np.argsort(-score, kind="stable")[: round(share * len(score))]] = True
    return keep


def clusters_of(features: np.ndarray, count: int, iterations: int = 20) -> tuple[Any, np.ndarray, np.ndarray]:
    import faiss

    kmeans = faiss.Kmeans(features.shape[1], count, niter=iterations, spherical=True, seed=0)
    kmeans.train(features)
    similarity, nearest = kmeans.index.search(features, 1)
    return kmeans.centroids, similarity[:, 0], nearest[:, 0]


def semdedup(folder: Path) -> np.ndarray:
    """All pairs of a cluster at once, an upper triangle kept."""
    features = load(folder, "image")
    count = max(1, len(features) // 1000)
    _, similarity, nearest = clusters_of(features, count)
    largest = np.zeros(len(features), dtype=np.float32)
    for number in range(count):
        ids = np.flatnonzero(nearest == number)
        ids = ids[np.argsort(similarity[ids])]
        if len(ids):
            largest[ids] = np.triu(features[ids] @ features[ids].T, k=1).max(axis=0)
    return top(-largest)


def density(folder: Path) -> np.ndarray:
    """Complexities cluster by cluster; the budget's programme with its one multiplier found by bisection."""
    features = load(folder, "image")
    count = min(500, max(1, len(features) // 20))
    centroids, similarity, nearest = clusters_of(features, count)
    complexity, sizes = np.zeros(count), np.zeros(count)
    for number in range(count):
        mine = nearest == number
        between = np.sort(1 - centroids @ centroids[number])[1:21]
        sizes[number] = mine.sum()
        complexity[number] = (1 - similarity[mine]).mean() * between.mean() if mine.any() else 0
    powers, total = np.exp(complexity / 0.5), round(KEEP * len(features))
    wish, least = total * powers / powers.sum(), np.minimum(total / count * 0.5, np.maximum(sizes - 1, 0))
    low, high = (wish - sizes).min(), wish.max()
    for _ in range(100):
        shift = (low + high) / 2
        low, high = (shift, high) if np.clip(wish - shift, least, sizes).sum() > total else (low, shift)
    keep = np.zeros(len(features), dtype=bool)
    for number, budget in enumerate(np.clip(wish - high, least, sizes).astype(int)):
        ids = np.flatnonzero(nearest == number)
        keep[ids[np.argsort(similarity[ids])[:budget]]] = True
    return keep


def prototypes(folder: Path) -> np.ndarray:
    """The farthest from their centroids, with no least share of a cluster."""
    features = load(folder, "image")
    return top(-clusters_of(features, min(1000, max(1, len(features) // 20)))[1])


def clip_score(folder: Path) -> np.ndarray:
    return top(np.einsum("nd,nd->n", load(folder, "image"), load(folder, "text")))


def neg_clip_loss(folder: Path) -> np.ndarray:
    """One partition into batches of 32,768, as float64: the sums would overflow float32."""
    images, texts = load(folder, "image"), load(folder, "text")
    order, score = np.random.default_rng(0).permutation(len(images)), np.empty(len(images))
    for start in range(0, len(images), 32768):
        ids = order[start : start + 32768]
        similarity = images[ids] @ texts[ids].T
        own = np.diag(similarity).copy()
        powers = np.exp(np.divide(similarity, 0.01, dtype=np.float64))
        score[ids] = own - 0.005 * (np.log(powers.sum(axis=0)) + np.log(powers.sum(axis=1)))
    return top(score)


def d2(folder: Path, samples: int = 20_000) -> np.ndarray:
    """The first samples alone: all distances, then the maximum of all scores anew for every choice."""
    images, texts = load(folder, "image", samples), load(folder, "text", samples)
    own = np.maximum(np.einsum("nd,nd->n", images, texts) + 0.115, 1e-7).astype(np.float64)
    rows = np.concatenate([images, texts], axis=1)
    squares = (rows * rows).sum(axis=1)
    near, distance = np.empty(len(rows), dtype=np.int64), np.empty(len(rows))
    for start in range(0, len(rows), 1000):
        part = slice(start, start + 1000)
        found = squares[part, None] + squares - 2 * rows[part] @ rows.T
        found[np.arange(len(found)), np.arange(start, start + len(found))] = np.inf
        near[part], distance[part] = found.argmin(axis=1), np.maximum(found.min(axis=1), 0)
    weight = np.exp(-distance)
    score, keep = own + weight * own[near], np.zeros(len(rows), dtype=bool)
    for _ in range(round(KEEP * len(rows))):
        best = int(np.argmax(np.where(keep, -np.inf, score)))
        keep[best] = True
        score[near[best]] -= weight[best] * score[best]
    return keep


def sas(folder: Path, is_greedy: bool = False) -> np.ndarray:
    """A class's whole matrix; greedily, the gains anew for every choice."""
    features = load(folder, "image")
    count = min(1000, max(1, len(features) // 500))
    _, _, nearest = clusters_of(features, count)
    keep = np.zeros(len(features), dtype=bool)
    for number in range(count):
        ids = np.flatnonzero(nearest == number)
        matrix = np.maximum(features[ids] @ features[ids].T, 0)
        np.fill_diagonal(matrix, 0)
        sums, budget = matrix.sum(axis=1), round(KEEP * len(ids))
        chosen = list(np.argsort(-sums, kind="stable")[:budget])
        if is_greedy:
            chosen = []
            for _ in range(budget):
                gain = sums - 2 * matrix[:, chosen].sum(axis=1)
                gain[chosen] = -np.inf
                chosen.append(int(np.argmax(gain)))
        keep[ids[chosen]] = True
    return keep
