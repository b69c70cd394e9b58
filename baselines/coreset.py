"""Train on a coreset that another run left: its samples for the whole run, at its own size or another."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.coreset import ensemble, load_coreset
from benchmark.options import RUNS
from benchmark.pruner import PoolView, StaticPruner


@dataclass
class CoresetOfRuns(StaticPruner):
    runs: Any = field(default=None, metadata=RUNS)
    """Runs of this sweep whose ``coreset.npz`` is taken, such as ``{pruner: scan}``. What is not said (model,
    pool, seed) is as in this run; lists make an ensemble: ``{pruner: scan, model: [RN50, ViT-S-16]}``."""
    files: list[str] = field(default_factory=list)
    """Coreset files to take instead, for instance of another sweep; several make an ensemble."""
    keep_fraction: float | None = None
    """Share of the pool to keep, in (0, 1]: ``round(keep_fraction * N)`` samples; None takes the coreset's own."""

    def __post_init__(self) -> None:
        if bool(self.runs) == bool(self.files):
            raise ValueError("give either runs, such as {pruner: scan}, or files: coreset.npz of other runs")
        if self.keep_fraction is not None and not 0 < self.keep_fraction <= 1:
            raise ValueError(f"keep_fraction must lie in (0, 1], got {self.keep_fraction}")

    def select(self, pool: PoolView) -> np.ndarray:
        paths = [self.runs_folder / run / "coreset.npz" for run in self.runs or ()] + [Path(f) for f in self.files]
        chosen = ensemble([load_coreset(path, pool.fingerprint) for path in paths])
        return chosen.cut(self.keep_fraction)
