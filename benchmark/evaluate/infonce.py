"""Held-out InfoNCE, query by query, in blocks of bounded size and one pass over them.

Letters: q queries, m candidates, d feature width; a block is b queries by c candidates.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmark.evaluate.ranks import GPU_BLOCK_ELEMENTS, large_device, tiles
from benchmark.evaluate.scores import BLOCK_ELEMENTS


def infonce(
    queries: np.ndarray,
    candidates: np.ndarray,
    query_group: np.ndarray,
    candidate_group: np.ndarray,
    logit_scale: float,
    most: int | None = None,
) -> np.ndarray:
    """For each query, minus the log of the softmax mass on its positives among all candidates: nats, float64 [q].

    A candidate is positive when it has the query's group; there must be one. Logits are cosines, not rounded,
    times ``logit_scale``. At most ``most`` of them are held at once. A GPU takes what is large.
    """
    device = large_device(len(queries) * len(candidates))
    most = most or (BLOCK_ELEMENTS if device is None else GPU_BLOCK_ELEMENTS)
    all_rows, all_columns = tiles(len(queries), len(candidates), most)
    found = np.empty(len(queries))
    for rows in all_rows:
        query = _unit(queries[rows], device)  # [b, d]
        group = torch.from_numpy(query_group[rows, None]).to(device)  # [b, 1]
        on_all = query.new_full((len(query),), -torch.inf)  # [b]: log of the sum so far
        on_positives = on_all
        for part in all_columns:
            logits = logit_scale * query @ _unit(candidates[part], device).T  # [b, c]
            is_other = group != torch.from_numpy(candidate_group[part]).to(device)
            on_all = torch.logaddexp(on_all, logits.logsumexp(1))
            on_positives = torch.logaddexp(on_positives, logits.masked_fill_(is_other, -torch.inf).logsumexp(1))
        found[rows] = (on_all - on_positives).clamp(min=0).cpu().numpy()
    assert np.isfinite(found).all(), "a query has no positive"
    return found


def _unit(features: np.ndarray, device: torch.device | None) -> Tensor:
    """Rows of length 1 in double precision: in float32 a large ``logit_scale`` would show their rounding."""
    return normalize(torch.from_numpy(features.astype(np.float64)).to(device), dim=1)
