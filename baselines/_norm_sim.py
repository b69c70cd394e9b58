"""NormSim (arXiv 2405.19547): how near images are to a target set, or to what is left of the pool itself.

Letters in shapes: N samples of the pool, n of them under consideration, M of the target, d embedding width.
"""

from __future__ import annotations

import math

import faiss
import numpy as np

from baselines import _cost, _gpu
from baselines._vectors import BLOCK, blocks, lowest

DECIMALS = 6
"""Of a score that lies in [-1, 1]: what differs by rounding alone is a tie."""


def largest(features: np.ndarray, ids: np.ndarray, target: np.ndarray) -> np.ndarray:
    """float32 [n], NormSim_inf: the largest absolute cosine with a target. It is a norm, as in the released code:
    an image opposite to a target counts as near."""
    found, device = np.zeros(len(ids), dtype=np.float32), _gpu.device()
    on_device = [] if device is None else _gpu.held((rows for _, rows in blocks(target, what="target")), device)
    for here, rows in _cost.steps("blocks beside the target", blocks(features, ids), len(ids) // BLOCK + 1):
        if device is not None:
            found[here] = _gpu.largest_size(rows, on_device, device)
            continue
        for _, others in blocks(target, what="target"):
            for towards in (rows, -rows):  # never all cosines at once
                nearest, _ = faiss.knn(towards, others, 1, metric=faiss.METRIC_INNER_PRODUCT)
                np.maximum(found[here], nearest[:, 0], out=found[here])
    return np.round(found, DECIMALS)


def second_moment(features: np.ndarray, ids: np.ndarray | None = None, what: str = "sample") -> np.ndarray:
    """float64 [d, d]: the sum of f f^T over all rows, or over ``ids``."""
    total = np.zeros((features.shape[1], features.shape[1]))
    for _, rows in blocks(features, ids, what):
        total += rows.T @ rows
    return total


def quadratic(features: np.ndarray, ids: np.ndarray, moment: np.ndarray, count: int) -> np.ndarray:
    """float32 [n]: f^T moment f / count, the mean squared cosine with the ``count`` rows of ``moment``, [d, d].

    Its order is NormSim_2's, which is the root of the sum.
    """
    found = np.empty(len(ids), dtype=np.float32)
    mean = (moment / max(count, 1)).astype(np.float32)
    for here, rows in blocks(features, ids):
        found[here] = np.einsum("nd,nd->n", rows @ mean, rows)
    return np.round(found, DECIMALS)


def shrink(features: np.ndarray, ids: np.ndarray, count: int, steps: int) -> np.ndarray:
    """int64 [count] of ``ids``, NormSim-D: the samples least like the rest leave in equal steps."""
    step = math.ceil((len(ids) - count) / steps)
    moment = second_moment(features, ids)
    while len(ids) > count:
        out = min(step, len(ids) - count)
        stays = ~lowest_last(quadratic(features, ids, moment, len(ids)), out)
        # DEVIATION(neg_clip_loss): NormSim-D's matrix is exact and that of the samples left; the released code
        # estimates it on a tenth of them, begins with that of the whole pool, and has a CLIP score choose first
        moment -= second_moment(features, ids[~stays])
        ids = ids[stays]
    return ids


def lowest_last(values: np.ndarray, count: int) -> np.ndarray:
    """float [n] -> bool [n]: the ``count`` lowest; of equals the last, as the first are those to keep."""
    return lowest(values[::-1], count)[::-1]
