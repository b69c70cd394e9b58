"""SCAN (arXiv 2411.09126): a preparation epoch marks candidates, mutation epochs drop a growing part of them.

Warm-up epochs on full data end when the loss stops falling fast. Then cycles of one preparation epoch and
``cycle`` mutation epochs follow to the end. In a preparation epoch each batch gives its lowest losses
(redundant) and its highest (ill-matched), per direction. docs/scan.md compares this with the published code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from baselines._candidates import KINDS, all_but, by_rank, merge, mutation_share
from benchmark.options import LATER_OPTION, check_option
from benchmark.pool import PoolView
from benchmark.pruner import EpochPlan, Pruner, State, pack, unpack


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
    """Candidates that are dropped: ``both``, ``redundant`` or ``ill_matched``.

    One kind with a doubled share has the pruning rate of both, and is the control by loss alone: ``redundant``
    with ``redundant_share: 0.6`` drops low losses, ``ill_matched`` with ``ill_matched_share: 0.6`` high ones.
    """
    schedule: str = field(default="cosine", metadata=LATER_OPTION)
    """How much is dropped: ``cosine`` grows in a cycle, ``fixed`` drops its mean in every mutation epoch."""
    combine: str = field(default="top_up", metadata=LATER_OPTION)
    """How two directions make one set: the paper's ``top_up`` (see ``overlap``), ``intersection`` or ``union``."""
    full_last_epochs: int = field(default=0, metadata=LATER_OPTION)
    """Epochs at the end of the run that train on full data; the paper has none."""
    redundant_below: float | None = field(default=None, metadata=LATER_OPTION)
    """Mark losses below this as redundant instead of by rank; then ``redundant_share`` is not used."""
    ill_matched_above: float | None = field(default=None, metadata=LATER_OPTION)
    """Mark losses above this as ill-matched instead of by rank; then ``ill_matched_share`` is not used."""
    rank_within: str = field(default="global", metadata=LATER_OPTION)
    """Losses compared: those of the ``global`` batch, or of each ``rank``'s part alone, as published for MoCo."""

    def __post_init__(self) -> None:
        for name in ("redundant_share", "ill_matched_share", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.mode == "both" and self.redundant_share + self.ill_matched_share > 1:
            raise ValueError("redundant_share and ill_matched_share must add up to at most 1")
        below, above = self.redundant_below, self.ill_matched_above
        if below is not None and above is not None and below > above:
            raise ValueError(f"redundant_below must be at most ill_matched_above, got {below} and {above}")
        if self.cycle < 1:
            raise ValueError(f"cycle must be at least 1, got {self.cycle}")
        if self.full_last_epochs < 0:
            raise ValueError(f"full_last_epochs must be at least 0, got {self.full_last_epochs}")
        check_option("mode", self.mode, ("both", *KINDS))
        check_option("schedule", self.schedule, ("cosine", "fixed"))
        check_option("combine", self.combine, ("top_up", "intersection", "union"))
        check_option("rank_within", self.rank_within, ("global", "rank"))

    def setup(self, pool: PoolView, *, num_epochs: int, seed: int, num_ranks: int = 1) -> None:
        super().setup(pool, num_epochs=num_epochs, seed=seed, num_ranks=num_ranks)
        self.masks = {name: np.zeros(pool.num_samples, dtype=bool) for name in KINDS}
        self.start: int | None = None  # first preparation epoch, once warm-up has ended
        self.previous_loss: float | None = None
        self.epoch = 0
        self.num_batches = 0
        self.loss_sum = 0.0
        self.loss_count = 0

    def plan(self, epoch: int) -> EpochPlan:
        phase = self._phase(epoch)
        if phase is None or phase == 0:
            return EpochPlan(np.ones(self.pool.num_samples, dtype=bool), observe=True)
        mask = self._droppable()
        count = int(mutation_share(phase, self.cycle, self.schedule) * np.count_nonzero(mask))
        return EpochPlan(all_but(count, mask, self.rng(epoch)))

    def observe(self, ids: np.ndarray, losses: np.ndarray) -> None:
        # a loss that is not finite says nothing about its sample; the published code ranks NaN as ill-matched
        finite = np.isfinite(losses).all(axis=1)
        # DEVIATION(scan): warm-up reads the mean loss of all ranks; the published code one rank's sum
        usable = losses[finite]
        self.loss_sum += float(usable.sum(dtype=np.float64))
        self.loss_count += usable.size
        if self._phase(self.epoch) == 0:
            if self.num_batches == 0:  # a preparation marks anew
                for mask in self.masks.values():
                    mask[:] = False
            rng = self.rng(self.epoch, self.num_batches)
            parts = self.num_ranks if self.rank_within == "rank" else 1  # a batch comes in the order of its ranks
            for part in np.split(np.arange(len(ids)), parts):
                rows = part[finite[part]]
                self._mark(ids[rows], losses[rows], rng)
        self.num_batches += 1

    def end_epoch(self, epoch: int) -> None:
        if self.start is None and self.loss_count:
            loss = self.loss_sum / self.loss_count
            if self.previous_loss is not None and _fall(self.previous_loss, loss) < self.warmup_threshold:
                self.start = epoch + 1
            self.previous_loss = loss
        self.epoch, self.num_batches, self.loss_sum, self.loss_count = epoch + 1, 0, 0.0, 0

    def candidates(self) -> Mapping[str, np.ndarray]:
        return {kind: self.masks[kind] for kind in KINDS if self.mode in ("both", kind)}

    def state_dict(self) -> State:
        numbers = ("start", "previous_loss", "epoch", "num_batches", "loss_sum", "loss_count")
        packed = {name: pack(mask) for name, mask in self.masks.items()}
        return {**packed, **{name: getattr(self, name) for name in numbers}}

    def load_state_dict(self, state: State) -> None:
        for name, value in state.items():
            if name in KINDS:
                self.masks[name] = unpack(value, self.pool.num_samples)
            else:
                setattr(self, name, value)

    def _phase(self, epoch: int) -> int | None:
        """0 in a preparation epoch, 1..cycle in mutation epochs; None in warm-up and in full last epochs."""
        if self.start is None or epoch < self.start or epoch >= self.num_epochs - self.full_last_epochs:
            return None
        return (epoch - self.start) % (self.cycle + 1)

    def _droppable(self) -> np.ndarray:
        if self.mode == "both":
            return self.masks["redundant"] | self.masks["ill_matched"]
        return self.masks[self.mode]

    def _mark(self, ids: np.ndarray, losses: np.ndarray, rng: np.random.Generator) -> None:
        picked = by_rank(losses, self.redundant_share, self.ill_matched_share)
        if self.redundant_below is not None:
            picked["redundant"] = losses < self.redundant_below
        if self.ill_matched_above is not None:
            picked["ill_matched"] = losses > self.ill_matched_above
        for kind in KINDS:
            self.masks[kind][ids[merge(picked[kind], self.combine, self.overlap, rng)]] = True


def _fall(previous: float, loss: float) -> float:
    return (previous - loss) / (previous + 1e-8)
