"""SCAN's cycles with a dose that follows the noise: only what a model matches worse than chance is left out.

A model that knows nothing gives each of a batch's B candidates 1/B, and every sample a loss of log B. A pair above
that, in one of its directions and after warm-up, is put behind others by a model that has learned: its caption is
likely another's. Ours; the rule was chosen on full-data runs with planted faults (docs/methods.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from baselines.scan import Scan
from baselines.scan_random import ScanRandom
from benchmark.options import require
from benchmark.pool import PoolView
from benchmark.pruner import EpochPlan, Pruner, State

LEAST_AT_START = 0.5
"""Of chance: an untrained network's first batch lies near it."""


@dataclass
class WorseThanChance(Pruner):
    cycle: int = 7
    """Epochs that leave out what the preparation epoch before them marked."""
    warmup_threshold: float = 0.3
    """As SCAN's: warm-up ends when the epoch's mean loss fell by less than this share."""
    loss_factor: float = 1.0
    """What the objective multiplies its InfoNCE by: 1 for CLIP; 2 tau for MoCo v3, 0.4 with the published tau."""
    random: bool = False
    """Its control: as many samples are left out, drawn at random each epoch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.loss_factor > 0, "loss_factor", "above 0", self.loss_factor)
        self._scan()

    def setup(self, pool: PoolView, *, num_epochs: int, seed: int, num_ranks: int = 1) -> None:
        super().setup(pool, num_epochs=num_epochs, seed=seed, num_ranks=num_ranks)
        self.scan = self._scan()
        self.scan.setup(pool, num_epochs=num_epochs, seed=seed, num_ranks=num_ranks)

    def _scan(self) -> Scan:
        kind = ScanRandom if self.random else Scan
        return kind(
            redundant_share=0, ill_matched_share=0, cycle=self.cycle, warmup_threshold=self.warmup_threshold,
            mode="ill_matched", schedule="all", combine="union",
        )  # fmt: skip

    def plan(self, epoch: int) -> EpochPlan:
        return self.scan.plan(epoch)

    def observe(self, ids: np.ndarray, losses: np.ndarray) -> None:
        """Raises ValueError where the first losses of a run show that ``loss_factor`` is another one."""
        chance = self.loss_factor * math.log(len(ids))
        is_first = self.scan.epoch == 0 and self.scan.num_batches == 0
        if is_first and len(ids) > 1 and losses.mean() < LEAST_AT_START * chance:
            raise ValueError(
                f"worse_than_chance: the first batch has a mean loss of {losses.mean():.2f}, and an untrained"
                f" network has about {chance:.2f} in batches of {len(ids)}; is loss_factor {self.loss_factor:g}"
                " the objective's? MoCo v3's is twice its temperature"
            )
        self.scan.ill_matched_above = chance
        self.scan.observe(ids, losses)

    def end_epoch(self, epoch: int) -> None:
        self.scan.end_epoch(epoch)

    def candidates(self) -> Mapping[str, np.ndarray]:
        return self.scan.candidates()

    def marks(self, epoch: int) -> np.ndarray | None:
        return self.scan.marks(epoch)

    def ranking(self, history: Iterable[np.ndarray]) -> np.ndarray | None:
        return self.scan.ranking(history)

    def state_dict(self) -> State:
        return self.scan.state_dict()

    def load_state_dict(self, state: State) -> None:
        self.scan.load_state_dict(state)
