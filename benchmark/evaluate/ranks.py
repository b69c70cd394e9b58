"""Ranks of the best positive among candidates, in blocks of bounded size, where ties never favour the model.

Letters: q queries, m candidates, d feature width; a block is b queries by c candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch

from benchmark.evaluate.scores import BLOCK_ELEMENTS, DECIMALS, unit

COLUMNS_AT_ONCE = 16384
"""Most candidates in a block: below it a block holds whole rows."""
GPU_BLOCK_ELEMENTS = 1 << 26
GPU_FROM = 1 << 30
"""Similarities from which a GPU is used if there is one: 33,000 images and as many captions."""


class Blocks(Protocol):
    """Rounded cosines, a block at a time."""

    def scores(self, rows: slice, columns: slice) -> Any:
        """float32 [b, c]. The same block is bit-equal every time."""

    def array(self, values: np.ndarray) -> Any:
        """An array of the kind that ``scores`` gives."""

    def numpy(self, values: Any) -> np.ndarray: ...


class NumpyBlocks:
    """On the CPU."""

    def __init__(self, queries: np.ndarray, candidates: np.ndarray) -> None:
        self.queries, self.columns = unit(queries), unit(candidates).T  # [q, d], [d, m]

    def scores(self, rows: slice, columns: slice) -> np.ndarray:
        return np.round(self.queries[rows] @ self.columns[:, columns], DECIMALS)

    def array(self, values: np.ndarray) -> np.ndarray:
        return values

    def numpy(self, values: np.ndarray) -> np.ndarray:
        return values


class TorchBlocks:
    """On any device of torch: in float32, never in TF32."""

    def __init__(self, queries: np.ndarray, candidates: np.ndarray, device: torch.device) -> None:
        self.device = device
        self.queries = torch.from_numpy(unit(queries))  # [q, d]: a block at a time goes to the device
        self.columns = torch.from_numpy(unit(candidates)).to(device).T  # [d, m]

    def scores(self, rows: slice, columns: slice) -> torch.Tensor:
        allowed = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            found = self.queries[rows].to(self.device) @ self.columns[:, columns]
        finally:
            torch.backends.cuda.matmul.allow_tf32 = allowed
        return torch.round(found, decimals=DECIMALS)

    def array(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device)

    def numpy(self, values: torch.Tensor) -> np.ndarray:
        return values.cpu().numpy()


def ranks(
    queries: np.ndarray,
    candidates: np.ndarray,
    query_group: np.ndarray,
    candidate_group: np.ndarray,
    most: int | None = None,
    device: torch.device | None = None,
) -> np.ndarray:
    """For each query, how many candidates stand before its best positive: int64 [q], 0 is the top.

    A candidate is positive when it has the query's group; there must be one. Among equal scores the smaller
    index stands first, whatever is positive, so equal embeddings score chance and no more. At most ``most``
    similarities are held at once. ``device``: None takes a GPU for what is large, else NumPy.
    """
    device = device or large_device(len(queries) * len(candidates))
    most = most or (BLOCK_ELEMENTS if device is None else GPU_BLOCK_ELEMENTS)
    all_rows, all_columns = tiles(len(queries), len(candidates), most)
    blocks: Blocks = (
        NumpyBlocks(queries, candidates) if device is None else TorchBlocks(queries, candidates, device)
    )
    positives = Positives(query_group, candidate_group)
    places = np.empty(len(queries), dtype=np.int64)
    for rows in all_rows:
        places[rows] = _places(blocks, positives, rows, all_columns)
    return places


class Positives:
    """Which candidates have the group of which queries."""

    def __init__(self, query_group: np.ndarray, candidate_group: np.ndarray) -> None:
        self.order = np.argsort(candidate_group, kind="stable")  # int64 [m]
        in_order = candidate_group[self.order]
        self.first = np.searchsorted(in_order, query_group, side="left")  # int64 [q], into order
        self.last = np.searchsorted(in_order, query_group, side="right")
        assert (self.last > self.first).all(), "a query has no positive"

    def of(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (row within ``rows``, candidate), int64 each; by row, candidates rising."""
        first, counts = self.first[rows], self.last[rows] - self.first[rows]
        row = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        return row, self.order[first[row] + within]


def _places(blocks: Blocks, positives: Positives, rows: slice, columns: list[slice]) -> np.ndarray:
    """Places of the best positives of some rows, int64 [b].

    The score of a positive is read from the block that its candidates are counted in: two ways of computing one
    cosine differ in the last bits, and copies of a positive would stand before or after it by chance.
    """
    row, candidate = positives.of(rows)
    value = np.empty(len(row), dtype=np.float32)
    kept: dict[int, Any] = {}
    for i, part in enumerate(columns):
        inside = np.flatnonzero((candidate >= part.start) & (candidate < part.stop))
        if len(inside):
            scores = blocks.scores(rows, part)
            kept = {i: scores}
            at = scores[blocks.array(row[inside]), blocks.array(candidate[inside] - part.start)]
            value[inside] = blocks.numpy(at)
    best = np.lexsort((candidate, -value, row))  # by row the highest score, of equals the first candidate
    chosen = best[np.searchsorted(row[best], np.arange(rows.stop - rows.start))]
    score = blocks.array(value[chosen][:, None])  # [b, 1]
    index = blocks.array(candidate[chosen][:, None])
    before = np.zeros(rows.stop - rows.start, dtype=np.int64)
    for i, part in enumerate(columns):
        scores = kept[i] if i in kept else blocks.scores(rows, part)
        column = blocks.array(np.arange(part.start, part.stop))
        is_before = (scores > score) | ((scores == score) & (column < index))
        before += blocks.numpy(is_before.sum(1))
    return before


def large_device(similarities: int) -> torch.device | None:
    """A GPU for so many that it is worth it, if there is one."""
    return torch.device("cuda") if similarities >= GPU_FROM and torch.cuda.is_available() else None


def tiles(num_queries: int, num_candidates: int, most: int) -> tuple[list[slice], list[slice]]:
    """Slices of queries and of candidates whose blocks hold at most ``most`` similarities."""
    width = max(1, min(num_candidates, COLUMNS_AT_ONCE, most))
    return list(_slices(num_queries, max(1, most // width))), list(_slices(num_candidates, width))


def _slices(count: int, step: int) -> Iterator[slice]:
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
