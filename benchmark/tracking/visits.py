"""What the trainer notes of each sample for the report: epochs that trained on it, and its observed losses.

Methods see none of it. Losses and candidates of an epoch go to files in the run's folder as it ends, so memory and
checkpoints hold those of the present epoch alone. N below is the number of samples of the pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmark.pruner import pack, unpack

MOST_LOSS = float(np.finfo(np.float16).max)


class VisitTracker:
    """Counts epochs by sample; every rank holds a copy that gets the same calls."""

    def __init__(self, num_samples: int) -> None:
        self.visits = np.zeros(num_samples, dtype=np.int16)
        self.visited = np.zeros(num_samples, dtype=bool)
        """In this epoch."""
        self.dropped = 0
        """Samples that plans or choices left out, over all epochs."""
        self.loss = np.full(num_samples, np.nan, dtype=np.float16)
        """Mean loss of the two directions as observed in this epoch; three digits are enough to be looked at."""
        self.passed_over = 0
        self.has_losses = False
        self.is_whole = True
        """False for a run that began before visits were counted."""

    def visit(self, ids: np.ndarray) -> None:
        """Ids int64 [B] of a batch that was trained on."""
        self.visited[ids] = True

    def observe(self, ids: np.ndarray, losses: np.ndarray) -> None:
        """Ids int64 [B] and losses float32 [B, 2] of samples that the method observed or chose from."""
        self.loss[ids] = np.minimum(losses.mean(axis=1), MOST_LOSS)
        self.has_losses = True

    def pass_over(self, count: int) -> None:
        """So many samples of a super-batch were not chosen."""
        self.passed_over += count

    def end_epoch(self, keep: np.ndarray) -> np.ndarray | None:
        """``keep`` is the epoch's mask, bool [N]. The losses it observed, float16 [N], NaN where none; or None."""
        self.visits += self.visited
        self.visited[:] = False
        self.dropped += int(np.count_nonzero(~keep)) + self.passed_over
        self.passed_over = 0
        if not self.has_losses:
            return None
        losses = self.loss.copy()
        self.loss[:] = np.nan
        self.has_losses = False
        return losses

    def state_dict(self) -> dict[str, Any]:
        return {
            "visits": self.visits,
            "visited": pack(self.visited),
            "dropped": self.dropped,
            "passed_over": self.passed_over,
            "loss": self.loss if self.has_losses else None,
            "is_whole": self.is_whole,
        }

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """None: a checkpoint from before visits were counted."""
        if state is None:
            self.is_whole = False
            return
        self.visits = state["visits"]
        self.visited = unpack(state["visited"], len(self.visits))
        self.dropped, self.passed_over, self.is_whole = state["dropped"], state["passed_over"], state["is_whole"]
        self.has_losses = state["loss"] is not None
        self.loss[:] = state["loss"] if self.has_losses else np.nan
