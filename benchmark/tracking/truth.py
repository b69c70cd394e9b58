"""How well a run's pruning meets planted truth: kept apart from the methods, which never see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmark.pruner import pack, unpack
from benchmark.runs.record import finite


class Planted(ABC):
    """One kind of sample that a pool planted: how many there are, and how many of them a mask holds."""

    num_samples: int
    total: int

    @abstractmethod
    def found(self, mask: np.ndarray) -> int:
        """How many the samples of ``mask``, bool [N], count for."""

    @abstractmethod
    def at_random(self, count: int) -> float:
        """What ``found`` gives on average for ``count`` samples drawn at random."""

    def auc(self, loss: np.ndarray) -> float | None:
        """Area under the ROC curve of a loss, float [N], as a detector; None where it cannot be told."""
        return None


class Flagged(Planted):
    """Samples with a flag, bool [N]."""

    def __init__(self, flag: np.ndarray) -> None:
        self.flag, self.num_samples, self.total = flag, len(flag), int(flag.sum())

    def found(self, mask: np.ndarray) -> int:
        return int((self.flag & mask).sum())

    def at_random(self, count: int) -> float:
        return self.total * count / self.num_samples

    def auc(self, loss: np.ndarray) -> float | None:
        """0.5 if the loss tells nothing; ties count half, samples without a finite loss not at all."""
        seen = np.isfinite(loss)
        flag = self.flag[seen]
        positives, negatives = int(flag.sum()), int((~flag).sum())
        if not positives or not negatives:
            return None
        ranks = rankdata(loss[seen])
        return finite((float(ranks[flag].sum()) - positives * (positives + 1) / 2) / (positives * negatives))


class Copies(Planted):
    """Groups of near-duplicates, of each of which all but one are redundant, whichever stays.

    A group of g samples has g - 1 redundant copies. Leaving out d of them finds min(d, g - 1): a group that goes
    as a whole has lost a sample that was not redundant.
    """

    def __init__(self, group: np.ndarray) -> None:
        """``group``: integer [N], the same number for a group, negative for samples in none."""
        self.num_samples = len(group)
        self.member = group >= 0
        _, self.group, self.sizes = np.unique(group[self.member], return_inverse=True, return_counts=True)
        self.total = int((self.sizes - 1).sum())

    def found(self, mask: np.ndarray) -> int:
        left_out = np.bincount(self.group[mask[self.member]], minlength=len(self.sizes))
        return int(np.minimum(left_out, self.sizes - 1).sum())

    def at_random(self, count: int) -> float:
        sizes, groups = np.unique(self.sizes, return_counts=True)
        found = 0.0
        for size, number in zip(sizes.tolist(), groups.tolist(), strict=True):
            position = np.arange(size)
            whole = float(np.prod(np.maximum(count - position, 0) / (self.num_samples - position)))
            found += number * (size * count / self.num_samples - whole)
        return found


class TruthTracker:
    """Counts, over all epochs that dropped anything, how many of the dropped samples were planted ones."""

    def __init__(self, truth: Mapping[str, np.ndarray], num_samples: int) -> None:
        """``truth`` by name: a flag, bool [N], or groups of near-duplicates, integers [N] (see ``Copies``)."""
        self.truth: dict[str, Planted] = {
            name: Flagged(what) if what.dtype == np.bool_ else Copies(what) for name, what in truth.items()
        }
        self.dropped = 0
        self.dropping_epochs = 0
        self.hits = dict.fromkeys(self.truth, 0)
        self.random_hits = dict.fromkeys(self.truth, 0.0)
        """What as many samples drawn at random would have hit, on average."""
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
        count = int((~keep).sum())
        self.dropping_epochs += 1
        self.dropped += count
        for name, planted in self.truth.items():
            self.hits[name] += planted.found(~keep)
            self.random_hits[name] += planted.at_random(count)

    def rows(self, candidates: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Rows of a record's ``pruning_truth``.

        Precision: share of the dropped samples that are planted ones. Recall: share of the planted ones that
        an epoch with pruning drops, on average. Each also for as many samples drawn at random. AUC: the chance
        that a flagged sample's loss is above another's, 0.5 if the loss tells nothing. ``candidates``: share of
        planted ones in each kind.
        """
        return [self._row(name, planted, candidates) for name, planted in self.truth.items() if planted.total]

    def _row(self, name: str, planted: Planted, candidates: Mapping[str, np.ndarray]) -> dict[str, Any]:
        chances = planted.total * self.dropping_epochs
        return {
            "flag": name,
            "base_rate": planted.total / planted.num_samples,
            "precision": self.hits[name] / self.dropped if self.dropped else None,
            "random_precision": self.random_hits[name] / self.dropped if self.dropped else None,
            "recall": self.hits[name] / chances if chances else None,
            "random_recall": self.random_hits[name] / chances if chances else None,
            "auc": planted.auc(self.last_loss),
            "candidates": {
                kind: planted.found(mask) / int(mask.sum()) if mask.any() else None
                for kind, mask in candidates.items()
            },
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "dropped": self.dropped,
            "dropping_epochs": self.dropping_epochs,
            "hits": dict(self.hits),
            "random_hits": dict(self.random_hits),
            "last_loss": self.last_loss,
            "passed_over": pack(self.passed_over),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.dropped, self.dropping_epochs = state["dropped"], state["dropping_epochs"]
        # a checkpoint from before a kind was counted: its first epochs are lost, so no row is given
        self.truth = {name: self.truth[name] for name in state.get("random_hits", {})}
        self.hits, self.random_hits = dict(state["hits"]), dict(state.get("random_hits", {}))
        self.last_loss = state["last_loss"]
        if "passed_over" in state:  # not in checkpoints of earlier versions
            self.passed_over = unpack(state["passed_over"], len(self.last_loss))
