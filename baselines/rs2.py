"""RS2 (ICLR 2024, openreview JnRStoIuTe): each epoch the next part of a permutation; all are seen equally often.

Repeated random sampling without replacement cuts a permutation of the pool into parts of r N, one an epoch, and
draws a new permutation when it is used up. The learning rate follows the shortened run, as it does for all
methods here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from baselines._candidates import all_but
from baselines._vectors import check_fraction
from benchmark.pool import PoolView
from benchmark.pruner import EpochPlan, Pruner, State, pack, unpack


@dataclass
class Rs2(Pruner):
    keep_fraction: float
    """Share of the pool that an epoch takes, r, in (0, 1]: ``round(keep_fraction * N)`` samples."""
    replacement: bool = False
    """Draw each epoch from the whole pool, as ``random_dynamic`` does; the paper prefers it without."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction(self.keep_fraction)

    def setup(self, pool: PoolView, *, num_epochs: int, seed: int, num_ranks: int = 1) -> None:
        super().setup(pool, num_epochs=num_epochs, seed=seed, num_ranks=num_ranks)
        self.is_used = np.zeros(pool.num_samples, dtype=bool)  # of the present permutation
        self._take(0)

    def plan(self, epoch: int) -> EpochPlan:
        return EpochPlan(self.keep_now)

    def end_epoch(self, epoch: int) -> None:
        self._take(epoch + 1)

    def _take(self, epoch: int) -> None:
        """The next ``round(r N)`` of the permutation. Drawing from what is left of it is the same as cutting
        it."""
        count, rng = round(self.keep_fraction * len(self.is_used)), self.rng(epoch)
        left = np.zeros_like(self.is_used) if self.replacement else ~self.is_used
        short = count - int(np.count_nonzero(left))
        if short < 0:
            self.keep_now = ~all_but(count, left, rng)
            self.is_used |= self.keep_now
            return
        # DEVIATION(rs2): where parts do not divide the pool, the rest of a permutation and the head of the next
        # make one epoch, no sample twice; the implementation in datacull leaves the rest unseen, and above 1/2
        # draws anew each epoch, as with replacement
        begun = ~all_but(short, ~left, rng)
        self.keep_now, self.is_used = left | begun, begun

    def state_dict(self) -> State:
        return {"keep": pack(self.keep_now), "used": pack(self.is_used)}

    def load_state_dict(self, state: State) -> None:
        self.keep_now, self.is_used = (unpack(state[name], self.pool.num_samples) for name in ("keep", "used"))
