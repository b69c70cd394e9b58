"""How well a run's pruning meets planted truth: kept apart from the methods, which never see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmark.pruner import pack, unpack
from benchmark.record import finite


class TruthTracker:
    """Counts, over all epochs that dropped anything, how many of the dropped samples carry a planted flag."""

    def __init__(self, truth: Mapping[str, np.ndarray], num_samples: int) -> None:
        self.truth = {name: np.asarray(flag, dtype=bool) for name, flag in truth.items()}
        self.dropped = 0
        self.dropping_epochs = 0
        self.hits = dict.fromkeys(self.truth, 0)
        self.last_loss = np.full(num_samples if self.truth else 0, np.nan, dtype=np.float32)
        """Mean loss of the two directions when a sample was last observed."""
        self.passed_over = np.zeros(len(self.last_loss), dtype=bool)
        """Samples that this epoch read and did not choose."""

    def observe(self, ids: np.ndarray, losses: np.ndarray) -> None:
        """Ids int64 [B] and losses float32 [B, 2] of a batch that the method observed."""
        if self.truth:
            self.last_loss[ids] = losses.mean(axis=1)

    def pass_over(self, ids: np.ndarray) -> None:
        """Ids int64 of a super-batch that were not chosen."""
        if self.truth:
            self.passed_over[ids] = True

    def end_epoch(self, keep: np.ndarray) -> None:
        """``keep`` is the mask the epoch trained on, bool [N]; what was passed over is dropped as well."""
        if self.passed_over.any():
            keep = keep & ~self.passed_over
            self.passed_over[:] = False
        if keep.all():
            return
        self.dropping_epochs += 1
        self.dropped += int((~keep).sum())
        for name, flag in self.truth.items():
            self.hits[name] += int((flag & ~keep).sum())

    def rows(self, candidates: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Rows of a record's ``pruning_truth``.

        Precision: share of the dropped samples that carry the flag. Recall: share of the flagged samples
        that an epoch with pruning drops, on average. AUC: the chance that a flagged sample's loss is above
        another's, 0.5 if the loss tells nothing. ``candidates``: share of flagged ones in each kind.
        """
        return [self._row(name, flag, candidates) for name, flag in self.truth.items() if flag.any()]

    def _row(self, name: str, flag: np.ndarray, candidates: Mapping[str, np.ndarray]) -> dict[str, Any]:
        chances = int(flag.sum()) * self.dropping_epochs
        return {
            "flag": name,
            "base_rate": float(flag.mean()),
            "precision": self.hits[name] / self.dropped if self.dropped else None,
            "recall": self.hits[name] / chances if chances else None,
            "auc": self.auc(name),
            "candidates": {
                kind: float(flag[mask].mean()) if mask.any() else None for kind, mask in candidates.items()
            },
        }

    def auc(self, name: str) -> float | None:
        """Area under the ROC curve of the last observed loss as a detector of the flag; ties count half."""
        seen = np.isfinite(self.last_loss)
        flag, loss = self.truth[name][seen], self.last_loss[seen]
        positives, negatives = int(flag.sum()), int((~flag).sum())
        if not positives or not negatives:
            return None
        ranks = rankdata(loss)
        return finite((float(ranks[flag].sum()) - positives * (positives + 1) / 2) / (positives * negatives))

    def state_dict(self) -> dict[str, Any]:
        return {
            "dropped": self.dropped,
            "dropping_epochs": self.dropping_epochs,
            "hits": dict(self.hits),
            "last_loss": self.last_loss,
            "passed_over": pack(self.passed_over),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.dropped, self.dropping_epochs = state["dropped"], state["dropping_epochs"]
        self.hits, self.last_loss = dict(state["hits"]), state["last_loss"]
        if "passed_over" in state:  # not in checkpoints of earlier versions
            self.passed_over = unpack(state["passed_over"], len(self.last_loss))
