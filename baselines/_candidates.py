"""SCAN's arithmetic on arrays: the extremes of one batch, two directions merged into one, and a uniform draw.

B below is the number of samples ranked together: a global batch, or one rank's part of it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

KINDS = ("redundant", "ill_matched")

CHUNK = 1 << 24
"""Samples that ``all_but`` draws from at once: its temporary arrays stay under 400 MB for a pool of any size."""


def by_rank(
    losses: np.ndarray, redundant_share: float, ill_matched_share: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """float32 [B, 2] -> each direction's rising order, int64 [B, 2], ties by position, and its lowest and highest
    losses, bool [B, 2] by kind.
    """
    order = _rising(losses)  # [B, 2]
    low, high = int(redundant_share * len(losses)), int(ill_matched_share * len(losses))
    # DEVIATION(scan): a share that rounds to 0 marks none; the published slice [-0:] marks the whole batch
    extremes = {"redundant": order[:low], "ill_matched": order[len(losses) - high :]}
    picked = {kind: np.zeros(losses.shape, dtype=bool) for kind in KINDS}
    for kind, positions in extremes.items():
        picked[kind][positions, [0, 1]] = True
    return order, picked


def extremeness(order: np.ndarray, mode: str, steps: int) -> np.ndarray:
    """Each direction's rising order, int64 [B, 2] -> uint8 [B] in 0..steps: nearness to the end that is dropped.

    By mean rank: ``redundant`` drops the lowest losses, ``ill_matched`` the highest, ``both`` either.
    """
    count = len(order)
    rank_sum = np.empty(count, dtype=np.int64)  # 0 to 2 B - 2
    rank_sum[order[:, 0]] = np.arange(count)
    rank_sum[order[:, 1]] += np.arange(count)
    return _steps_of_rank_sum(count, mode, steps)[rank_sum]


@lru_cache(maxsize=8)
def _steps_of_rank_sum(count: int, mode: str, steps: int) -> np.ndarray:
    share = np.arange(2 * count - 1) / max(2 * count - 2, 1)  # 0 the lowest loss, 1 the highest
    nearness = {"redundant": 1 - share, "ill_matched": share, "both": np.abs(2 * share - 1)}[mode]
    return np.rint(nearness * steps).astype(np.uint8)


def _rising(losses: np.ndarray) -> np.ndarray:
    """Each column's stable argsort: a plain sort of whole numbers, loss above position, is three times as fast."""
    bits = (losses.T.astype(np.float32) + np.float32(0)).view(np.int32)  # [2, B]; adding 0 turns -0 into 0
    rank = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)  # floats as whole numbers, in their order
    return (np.sort(rank << 32 | np.arange(len(losses)), axis=1) & 0xFFFFFFFF).T


def merge(picked: np.ndarray, combine: str, overlap: float, rng: np.random.Generator) -> np.ndarray:
    """bool [B, 2] -> bool [B]: the picks of both directions, of either, or of both topped up (see ``Scan``)."""
    either = picked[:, 0] | picked[:, 1]
    if combine == "union":
        return either
    merged = picked[:, 0] & picked[:, 1]
    wanted, agreed = np.count_nonzero(picked[:, 0]), np.count_nonzero(merged)
    if combine == "top_up" and agreed < overlap * wanted:
        merged[rng.choice(np.flatnonzero(either & ~merged), size=wanted - agreed, replace=False)] = True
    return merged


def all_but(count: int, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool [N]: False at ``count`` samples of ``mask``, each subset of that size as likely; True elsewhere."""
    keep = np.ones(len(mask), dtype=bool)
    rest = int(np.count_nonzero(mask))
    for first in range(0, len(mask), CHUNK):
        inside = np.flatnonzero(mask[first : first + CHUNK])
        rest -= len(inside)
        here = int(rng.hypergeometric(len(inside), rest, count)) if rest else count
        keep[first + rng.choice(inside, size=here, replace=False)] = False
        count -= here
    return keep


def mutation_share(phase: int, cycle: int, schedule: str = "cosine") -> float:
    """Share of the candidates dropped at ``phase``: 0 at phase 0; but for ``all`` a cycle's mean is 1/2.

    ``cosine`` rises to 1 at phase ``cycle`` (SCAN, eq. for rho_cur). ``fixed`` is one share for all
    mutation epochs: (cycle + 1) / (2 cycle), which is 2/3 for 3 of them. ``all`` is 1 in each, for rates that the
    others cannot reach: a cycle's mean is then cycle / (cycle + 1).
    """
    if schedule == "all":
        return 1.0 if phase else 0.0
    if schedule == "fixed":
        return (cycle + 1) / (2 * cycle) if phase else 0.0
    return 0.5 * (1 + math.cos(math.pi * (cycle - phase) / cycle))
