"""SCAN (arXiv 2411.09126): a preparation epoch marks candidates, mutation epochs drop a growing part of them.

Warm-up epochs on full data end when the loss stops falling fast. Then cycles of one preparation epoch and
``cycle`` mutation epochs follow to the end. In a preparation epoch each batch gives its lowest losses
(redundant) and its highest (ill-matched), per direction. B below is the size of a global batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchmark.options import check_option
from benchmark.pool import PoolView
from benchmark.pruner import EpochPlan, Pruner, State, pack, unpack

MASKS = ("redundant", "ill_matched", "next_redundant", "next_ill_matched")


@dataclass
class Scan(Pruner):
    redundant_share: float = 0.30
    """Share of a batch marked redundant: rho_min, 0.30 for CLIP and 0.35 for MoCo in the published runs."""
    ill_matched_share: float = 0.30
    """Share of a batch marked ill-matched: rho_max, published as rho_min."""
    cycle: int = 3
    """Mutation epochs in a cycle: T_cos."""
    warmup_threshold: float = 0.3
    """Warm-up ends when the epoch's mean loss fell by less than this share: T_td."""
    overlap: float = 0.9
    """Below this agreement of the two directions, their intersection is topped up at random."""
    mode: str = "both"
    """Candidates that are dropped: ``both``, ``redundant`` or ``ill_matched``."""

    def __post_init__(self) -> None:
        for name in ("redundant_share", "ill_matched_share", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.redundant_share + self.ill_matched_share > 1:
            raise ValueError("redundant_share and ill_matched_share must add up to at most 1")
        if self.cycle < 1:
            raise ValueError(f"cycle must be at least 1, got {self.cycle}")
        check_option("mode", self.mode, ("both", "redundant", "ill_matched"))

    def setup(self, pool: PoolView, *, num_epochs: int, seed: int, num_ranks: int = 1) -> None:
        super().setup(pool, num_epochs=num_epochs, seed=seed, num_ranks=num_ranks)
        self.masks = {name: np.zeros(pool.num_samples, dtype=bool) for name in MASKS}
        self.start: int | None = None  # first preparation epoch, once warm-up has ended
        self.previous_loss: float | None = None
        self.epoch = 0
        self.num_batches = 0
        self.loss_sum = 0.0
        self.loss_count = 0

    def plan(self, epoch: int) -> EpochPlan:
        keep = np.ones(self.pool.num_samples, dtype=bool)
        phase = self._phase(epoch)
        if phase is None or phase == 0:
            return EpochPlan(keep, observe=True)
        dropped = np.flatnonzero(self._droppable())
        count = int(mutation_share(phase, self.cycle) * len(dropped))
        keep[self.rng(epoch).choice(dropped, size=count, replace=False)] = False
        return EpochPlan(keep)

    def observe(self, ids: np.ndarray, losses: np.ndarray) -> None:
        # a loss that is not finite says nothing about its sample; the published code ranks NaN as ill-matched
        finite = np.isfinite(losses).all(axis=1)
        ids, losses = ids[finite], losses[finite]
        # DEVIATION(scan): warm-up reads the mean loss of all ranks; the published code one rank's sum
        self.loss_sum += float(losses.sum(dtype=np.float64))
        self.loss_count += losses.size
        if self._phase(self.epoch) == 0:
            rng = self.rng(self.epoch, self.num_batches)
            order = np.argsort(losses, axis=0, kind="stable")  # [B, 2], rising
            for kind, share in (("redundant", self.redundant_share), ("ill_matched", self.ill_matched_share)):
                count = int(share * len(ids))  # DEVIATION(scan): 0 marks none; the published slice [-0:] marks all
                extreme = order[:count] if kind == "redundant" else order[len(ids) - count :]
                self.masks[f"next_{kind}"][ids[self._merge(extreme, len(ids), rng)]] = True
        self.num_batches += 1

    def end_epoch(self, epoch: int) -> None:
        if self._phase(epoch) == 0:
            for kind in ("redundant", "ill_matched"):
                self.masks[kind] = self.masks[f"next_{kind}"]
                self.masks[f"next_{kind}"] = np.zeros(self.pool.num_samples, dtype=bool)
        elif self.start is None and self.loss_count:
            loss = self.loss_sum / self.loss_count
            if self.previous_loss is not None and _fall(self.previous_loss, loss) < self.warmup_threshold:
                self.start = epoch + 1
            self.previous_loss = loss
        self.epoch, self.num_batches, self.loss_sum, self.loss_count = epoch + 1, 0, 0.0, 0

    def candidates(self) -> dict[str, np.ndarray]:
        return {kind: self.masks[kind] for kind in ("redundant", "ill_matched") if self.mode in ("both", kind)}

    def state_dict(self) -> State:
        numbers = ("start", "previous_loss", "epoch", "num_batches", "loss_sum", "loss_count")
        packed = {name: pack(mask) for name, mask in self.masks.items()}
        return {**packed, **{name: getattr(self, name) for name in numbers}}

    def load_state_dict(self, state: State) -> None:
        for name, value in state.items():
            if name in MASKS:
                self.masks[name] = unpack(value, self.pool.num_samples)
            else:
                setattr(self, name, value)

    def _phase(self, epoch: int) -> int | None:
        """None in warm-up, 0 in a preparation epoch, 1..cycle in mutation epochs."""
        return None if self.start is None or epoch < self.start else (epoch - self.start) % (self.cycle + 1)

    def _droppable(self) -> np.ndarray:
        if self.mode == "both":
            return self.masks["redundant"] | self.masks["ill_matched"]
        return self.masks[self.mode]

    def _merge(self, extreme: np.ndarray, batch_size: int, rng: np.random.Generator) -> np.ndarray:
        """Positions [k, 2] picked by each direction -> one mask, bool [B]: both, topped up where they disagree."""
        picked = np.zeros((batch_size, 2), dtype=bool)
        picked[extreme[:, 0], 0] = True
        picked[extreme[:, 1], 1] = True
        merged = np.logical_and(picked[:, 0], picked[:, 1])
        missing = len(extreme) - int(merged.sum())
        if len(extreme) - missing < self.overlap * len(extreme):
            either = np.flatnonzero(picked.any(axis=1) & ~merged)
            merged[rng.choice(either, size=missing, replace=False)] = True
        return merged


def mutation_share(phase: int, cycle: int) -> float:
    """Share of the candidates dropped: 0 at phase 0 of a cycle, 1 at phase ``cycle`` (SCAN, eq. for rho_cur)."""
    return 0.5 * (1 + math.cos(math.pi * (cycle - phase) / cycle))


def _fall(previous: float, loss: float) -> float:
    return (previous - loss) / (previous + 1e-8)
