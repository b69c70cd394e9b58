"""Embeddings block by block as float32 rows of length 1, whatever they are stored as.

Letters in shapes: N samples, d embedding width, n rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 1 << 14
"""Rows that are in memory at once."""


class Joined:
    """Feature arrays, [N, d] each, read as one: their rows of length 1 side by side, float32 [n, sum of d]."""

    def __init__(self, *parts: np.ndarray) -> None:
        self.parts = parts
        self.shape = (len(parts[0]), sum(part.shape[1] for part in parts))

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, ids: np.ndarray | slice) -> np.ndarray:
        return np.concatenate([unit_rows(part, ids) for part in self.parts], axis=1)


Features = np.ndarray | Joined
"""Embeddings as they are stored."""


def unit_rows(features: Features, ids: np.ndarray | slice, what: str = "sample") -> np.ndarray:
    """float32 [n, d] of length 1; zeros stay zeros. Raises ValueError naming a sample that is not finite."""
    rows = np.asarray(features[ids], dtype=np.float32)
    squares = np.einsum("nd,nd->n", rows, rows)
    if not np.isfinite(squares).all():
        first = int(np.flatnonzero(~np.isfinite(squares))[0])
        sample = int(np.arange(*ids.indices(len(features)))[first] if isinstance(ids, slice) else ids[first])
        raise ValueError(f"the embedding of {what} {sample} is not finite: compute the features again")
    rows *= (1 / np.sqrt(np.maximum(squares, 1e-24)))[:, None]
    return rows


def blocks(
    features: Features, ids: np.ndarray | None = None, what: str = "sample"
) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices in order, of the samples or of ``ids``, with their unit rows."""
    total = len(features) if ids is None else len(ids)
    for start in range(0, total, BLOCK):
        here = slice(start, min(start + BLOCK, total))
        yield here, unit_rows(features, here if ids is None else ids[here], what)


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[N, d] twice -> float32 [N]: of each row with the row beside it; 0 where one of them is zeros."""
    found = np.empty(len(one), dtype=np.float32)
    for (here, rows), (_, others) in zip(blocks(one), blocks(other), strict=True):
        found[here] = np.einsum("nd,nd->n", rows, others)
    return found


def lowest(values: np.ndarray, count: int) -> np.ndarray:
    """float [N] -> bool [N]: the ``count`` lowest, ties by position."""
    keep = np.zeros(len(values), dtype=bool)
    keep[np.argsort(values, kind="stable")[:count]] = True
    return keep


def check_fraction(keep_fraction: float) -> None:
    if not 0 < keep_fraction <= 1:
        raise ValueError(f"keep_fraction must lie in (0, 1], got {keep_fraction}")
