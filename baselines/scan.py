"""SCAN (arXiv 2411.09126): a preparation epoch marks candidates, mutation epochs drop a growing part of them.

Warm-up epochs on full data end when the loss stops falling fast. Then cycles of one preparation epoch and
``cycle`` mutation epochs follow to the end. In a preparation epoch each batch gives its lowest losses
(redundant) and its highest (ill-matched), per direction. docs/scan.md compares this with the published code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from baselines._candidates import KINDS, all_but, by_rank, extremeness, merge, mutation_share
from baselines._scores import Scored
from benchmark.options import LATER_OPTION, check_option
from benchmark.pool import PoolView
from benchmark.pruner import EpochPlan, State, pack, unpack

BITS = {"redundant": 1 << 7, "ill_matched": 1 << 6}
NUMBERS = ("start", "previous_loss", "epoch", "num_batches", "loss_sum", "loss_count")
STRENGTH = (1 << 6) - 1
"""A mark is one byte: a bit for each kind, and 0 if the sample was not observed, else 1 + its extremeness * 62."""


@dataclass
class Scan(Scored):
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
    """How much is dropped: ``cosine`` grows in a cycle, ``fixed`` drops its mean in every mutation epoch, ``all``
    drops every candidate in each (with long cycles and large shares the rate goes up to 90 % and more)."""
    combine: str = field(default="top_up", metadata=LATER_OPTION)
    """How two directions make one set: the paper's ``top_up`` (see ``overlap``), ``intersection`` or ``union``."""
    full_last_epochs: int = field(default=0, metadata=LATER_OPTION)
    """Epochs at the end of the run that train on full data; the paper has none."""
    redundant_below: float | None = field(default=None, metadata=LATER_OPTION)
    """Mark losses below this as redundant instead of by rank; then ``redundant_share`` is not used."""
    ill_matched_above: float | None = field(default=None, metadata=LATER_OPTION)
    """Mark losses above this as ill-matched instead of by rank; then ``ill_matched_share`` is not used."""
    rank_within: str = field(default="global", metadata=LATER_OPTION)
    """Losses compared: those of the ``global`` batch, or of each ``rank``'s part alone, as published for MoCo (the
    picks of all parts are then merged as one)."""

    high_is_noise: ClassVar = True

    @property
    def revision(self) -> int | None:  # type: ignore[override]
        return 2 if self.rank_within == "rank" else None  # once what each part picked was merged by itself

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("redundant_share", "ill_matched_share", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.mode == "both" and self.redundant_share + self.ill_matched_share > 1:
            raise ValueError("redundant_share and ill_matched_share must add up to at most 1")
        below, above = self.redundant_below, self.ill_matched_above
        if below is not None and above is not None and below > above:
            raise ValueError(f"redundant_below must be at most ill_matched_above, got {below} and {above}")
        if below is not None or above is not None:
            self.refuse("alignment", "redundant_below and ill_matched_above", "they are losses")
        if self.cycle < 1:
            raise ValueError(f"cycle must be at least 1, got {self.cycle}")
        if self.full_last_epochs < 0:
            raise ValueError(f"full_last_epochs must be at least 0, got {self.full_last_epochs}")
        check_option("mode", self.mode, ("both", *KINDS))
        check_option("schedule", self.schedule, ("cosine", "fixed", "all"))
        check_option("combine", self.combine, ("top_up", "intersection", "union"))
        check_option("rank_within", self.rank_within, ("global", "rank"))

    def setup(self, pool: PoolView, *, num_epochs: int, seed: int, num_ranks: int = 1) -> None:
        super().setup(pool, num_epochs=num_epochs, seed=seed, num_ranks=num_ranks)
        self.marks_now = np.zeros(pool.num_samples, dtype=np.uint8)
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
        mask = self._droppable(self.marks_now)
        count = int(mutation_share(phase, self.cycle, self.schedule) * np.count_nonzero(mask))
        return EpochPlan(all_but(count, mask, self.rng(epoch)))

    def observe(self, ids: np.ndarray, losses: np.ndarray) -> None:
        scores = self.scored(ids, losses)  # also in warm-up: they remember
        # DEVIATION(scan): a loss that is not finite says nothing about its sample; the published code ranks NaN as
        # ill-matched
        finite = np.isfinite(losses).all(axis=1)
        # DEVIATION(scan): warm-up reads the mean loss of all ranks; the published code one rank's sum
        usable = losses[finite]
        self.loss_sum += float(usable.sum(dtype=np.float64))
        self.loss_count += usable.size
        if self._phase(self.epoch) == 0:
            if self.num_batches == 0:  # a preparation marks anew
                self.marks_now[:] = 0
            # DEVIATION(rank_within): ranked within the global batch, so that the number of ranks does not enter;
            # the published MoCo code ranks within each GPU's part. Either way all parts are merged as one
            parts = self.num_ranks if self.rank_within == "rank" else 1  # a batch comes in the order of its ranks
            split = np.split(np.arange(len(ids)), parts)
            self._mark(ids, scores, [part[finite[part]] for part in split], self.rng(self.epoch, self.num_batches))
        self.num_batches += 1

    def end_epoch(self, epoch: int) -> None:
        if self.start is None and self.loss_count:
            loss = self.loss_sum / self.loss_count
            if self.previous_loss is not None and _fall(self.previous_loss, loss) < self.warmup_threshold:
                self.start = epoch + 1
            self.previous_loss = loss
        self.epoch, self.num_batches, self.loss_sum, self.loss_count = epoch + 1, 0, 0.0, 0

    def candidates(self) -> Mapping[str, np.ndarray]:
        return {kind: self.marks_now & BITS[kind] > 0 for kind in KINDS if self.mode in ("both", kind)}

    def marks(self, epoch: int) -> np.ndarray | None:
        return self.marks_now if self._phase(epoch) == 0 else None

    def ranking(self, history: Iterable[np.ndarray]) -> np.ndarray | None:
        """How often a sample was a candidate, then how extreme its loss was on average: float32 [N], or None.

        The paper leaves open how its coresets are cut; this order continues the candidates of larger shares.
        """
        often, extremeness_sum, observed = np.zeros((3, self.pool.num_samples), dtype=np.float32)
        cycles = 0
        for marks in history:
            often += self._droppable(marks)
            level = marks & STRENGTH
            extremeness_sum += np.maximum(level, 1).astype(np.float32) - 1
            observed += level > 0
            cycles += 1
        return often + extremeness_sum / (np.maximum(observed, 1) * STRENGTH) if cycles else None

    def state_dict(self) -> State:
        packed = {kind: pack(self.marks_now & BITS[kind] > 0) for kind in KINDS}
        # a byte a sample only while a preparation epoch is under way: once it has ended, its marks lie on disk
        strength = self.marks_now & STRENGTH if self._phase(self.epoch) == 0 and self.num_batches else None
        numbers = {name: getattr(self, name) for name in NUMBERS}
        return {**super().state_dict(), **packed, "strength": strength, **numbers}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        strength = state.get("strength")
        self.marks_now[:] = 0 if strength is None else strength
        for kind in KINDS:
            self.marks_now |= unpack(state[kind], self.pool.num_samples) * np.uint8(BITS[kind])
        for name in NUMBERS:
            setattr(self, name, state[name])

    def _phase(self, epoch: int) -> int | None:
        """0 in a preparation epoch, 1..cycle in mutation epochs; None in warm-up and in full last epochs."""
        if self.start is None or epoch < self.start or epoch >= self.num_epochs - self.full_last_epochs:
            return None
        return (epoch - self.start) % (self.cycle + 1)

    def _droppable(self, marks: np.ndarray) -> np.ndarray:
        """uint8 [N] -> bool [N]: marked with a kind that this mode drops."""
        return marks & sum(BITS[kind] for kind in KINDS if self.mode in ("both", kind)) > 0

    def _mark(
        self, ids: np.ndarray, scores: np.ndarray, parts: list[np.ndarray], rng: np.random.Generator
    ) -> None:
        """``parts`` are positions, int64, that are ranked among themselves; all of them have one merge a kind."""
        ranked = [by_rank(scores[rows], self.redundant_share, self.ill_matched_share) for rows in parts]
        for rows, (order, _) in zip(parts, ranked, strict=True):
            self.marks_now[ids[rows]] &= ~np.uint8(STRENGTH)
            self.marks_now[ids[rows]] |= 1 + extremeness(order, self.mode, STRENGTH - 1)
        ids, scores = ids[np.concatenate(parts)], scores[np.concatenate(parts)]
        picked = {kind: np.concatenate([extremes[kind] for _, extremes in ranked]) for kind in KINDS}
        if self.redundant_below is not None:
            picked["redundant"] = scores < self.redundant_below
        if self.ill_matched_above is not None:
            picked["ill_matched"] = scores > self.ill_matched_above
        for kind in KINDS:  # a sample that comes twice in an epoch keeps what either visit marked
            self.marks_now[ids[merge(picked[kind], self.combine, self.overlap, rng)]] |= BITS[kind]


def _fall(previous: float, loss: float) -> float:
    return (previous - loss) / (previous + 1e-8)
