"""Embeddings block by block as float32 rows of length 1, whatever they are stored as.

Letters in shapes: N samples, d embedding width, n rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 1 << 14
"""Rows that are in memory at once."""


def unit_rows(features: np.ndarray, ids: np.ndarray | slice) -> np.ndarray:
    """float32 [n, d] of length 1; zeros stay zeros. Raises ValueError naming a sample that is not finite."""
    rows = np.asarray(features[ids], dtype=np.float32)
    squares = np.einsum("nd,nd->n", rows, rows)
    if not np.isfinite(squares).all():
        first = int(np.flatnonzero(~np.isfinite(squares))[0])
        sample = int(np.arange(*ids.indices(len(features)))[first] if isinstance(ids, slice) else ids[first])
        raise ValueError(f"the embedding of sample {sample} is not finite: compute the features again")
    rows *= (1 / np.sqrt(np.maximum(squares, 1e-24)))[:, None]
    return rows


def blocks(features: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of the samples in order with their unit rows."""
    for start in range(0, len(features), BLOCK):
        here = slice(start, min(start + BLOCK, len(features)))
        yield here, unit_rows(features, here)


def lowest(values: np.ndarray, count: int) -> np.ndarray:
    """float [N] -> bool [N]: the ``count`` lowest, ties by position."""
    keep = np.zeros(len(values), dtype=bool)
    keep[np.argsort(values, kind="stable")[:count]] = True
    return keep


def check_fraction(keep_fraction: float) -> None:
    if not 0 < keep_fraction <= 1:
        raise ValueError(f"keep_fraction must lie in (0, 1], got {keep_fraction}")
