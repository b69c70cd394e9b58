"""What watches a run without the method knowing: all that the trainer tells its observers goes through one object.

A new observer is a field here; the trainer does not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmark.pool.samples import Pool
from benchmark.pruner import Pruner
from benchmark.runs.folder import RunFolder
from benchmark.tracking.epoch_files import save_candidates, save_losses
from benchmark.tracking.truth import TruthTracker
from benchmark.tracking.visits import VisitTracker


class Trackers:
    """Planted truth that pruning met, visits and losses of each sample; every rank's copy gets the same calls."""

    NAMES = ("truth", "visits")
    """Of their states, as a checkpoint holds them beside the trainer's own."""

    def __init__(self, pool: Pool) -> None:
        self.truth = TruthTracker(pool.truth, pool.num_samples)
        self.visits = VisitTracker(pool.num_samples)

    def visit(self, ids: np.ndarray) -> None:
        """Ids int64 [B] of a batch that was trained on."""
        self.visits.visit(ids)

    def observe(self, ids: np.ndarray, losses: np.ndarray) -> None:
        """Ids int64 [B] and losses float32 [B, 2] of samples that the method observed or chose from."""
        self.truth.observe(ids, losses)
        self.visits.observe(ids, losses)

    def pass_over(self, ids: np.ndarray) -> None:
        """Ids int64 of a super-batch that were not chosen."""
        self.truth.pass_over(ids)
        self.visits.pass_over(len(ids))

    def end_epoch(
        self, epoch: int, keep: np.ndarray, pruner: Pruner, has_marked: bool, folder: RunFolder | None
    ) -> dict[str, int]:
        """``keep``: the epoch's mask, bool [N]. ``folder``: where it leaves what it found; None but on rank 0.

        ``has_marked``: the method found its candidates anew in this epoch. Returns checksums of its files.
        """
        self.truth.end_epoch(keep)
        losses = self.visits.end_epoch(keep)
        if losses is None or folder is None:
            return {}
        files = save_losses(folder, epoch, losses)
        if has_marked and (found := pruner.candidates()):
            files |= save_candidates(folder, epoch, found)
        return files

    def state_dict(self) -> dict[str, Any]:
        return {"truth": self.truth.state_dict(), "visits": self.visits.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """By ``NAMES``; None for visits of a checkpoint from before they were counted."""
        self.truth.load_state_dict(state["truth"])
        self.visits.load_state_dict(state["visits"])
