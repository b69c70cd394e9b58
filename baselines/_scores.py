"""What methods rank samples by: each sample's own loss, or a score that stands in for it (``Scored.scored``).

Letters in shapes: N samples of the pool, B in a global batch or a super-batch, K epochs of a window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from benchmark.options import LATER_OPTION, check_option, require
from benchmark.pool import PoolView
from benchmark.pruner import Pruner, State

DECAY, WINDOW = 0.9, 5


@dataclass
class Scored(Pruner):
    """A method that ranks losses. It asks ``scored`` for what to rank, once for each batch, in order."""

    score: str = field(default="sample", metadata=LATER_OPTION, kw_only=True)
    """What is ranked. ``sample``: a sample's own loss. ``batch``: an exponential mean of the mean losses of the
    batches it came in (BLS, arXiv 2604.04681). ``alignment``: the correlation of its losses in the last epochs
    with those of reference data, high where it is learned as clean data is (AlignPrune, arXiv 2604.07306)."""
    score_decay: float = field(default=DECAY, metadata=LATER_OPTION, kw_only=True)
    """Of ``batch``: alpha of s <- alpha s + (1 - alpha) L. The paper has 0.7 to 0.8; a public reproduction found
    0.9 the best."""
    window_epochs: int = field(default=WINDOW, metadata=LATER_OPTION, kw_only=True)
    """Of ``alignment``: K, the epochs that are compared, of those whose losses the method looks at; ours."""
    reference: Any = field(default=None, metadata=LATER_OPTION, kw_only=True)
    """Of ``alignment``: the source whose held-out samples are the reference, such as ``shapes`` or
    ``{shapes: {seed: 7}}``. Its pairs for CLIP, the images of its labelled train split for MoCo."""

    high_is_noise: ClassVar[bool] = False
    """Whether the method reads a high loss as a sign of a bad sample. Alignment then changes its sign."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_option("score", self.score, ("sample", "batch", "alignment"))
        require(0 <= self.score_decay < 1, "score_decay", "in [0, 1)", self.score_decay)
        require(self.window_epochs >= 3, "window_epochs", "at least 3: two points align", self.window_epochs)
        if (self.reference is None) == (self.score == "alignment"):
            raise ValueError("score: alignment and reference, a source of held-out clean samples, go together")
        for name, default, of in (("score_decay", DECAY, "batch"), ("window_epochs", WINDOW, "alignment")):
            if getattr(self, name) != default and self.score != of:
                raise ValueError(f"{name} is an option of score: {of}, and score is {self.score}")

    @property
    def reference_data(self) -> Any:
        return self.reference

    def refuse(self, score: str, option: str, why: str) -> None:
        """Raise ValueError if ``score`` is asked for, which ``option`` makes no sense with."""
        if self.score == score:
            raise ValueError(f"score: {score} makes no sense with {option}: {why}")

    def setup(self, pool: PoolView, *, num_epochs: int, seed: int, num_ranks: int = 1) -> None:
        super().setup(pool, num_epochs=num_epochs, seed=seed, num_ranks=num_ranks)
        self._state: State = {}
        if self.score == "batch":
            self._state = {"score_mean": np.full(pool.num_samples, np.nan, dtype=np.float32)}
        elif self.score == "alignment":
            self._state = {
                "score_losses": np.full((self.window_epochs, pool.num_samples), np.nan, dtype=np.float32),
                "score_reference": np.full(self.window_epochs, np.nan),
                "score_epochs": 0,
            }

    def observe_reference(self, epoch: int, loss: float) -> None:
        """The oldest epoch of the window gives its place to this one."""
        row = self._state["score_epochs"] % self.window_epochs
        self._state["score_losses"][row] = np.nan
        self._state["score_reference"][row] = loss
        self._state["score_epochs"] += 1

    def scored(self, ids: np.ndarray, losses: np.ndarray) -> np.ndarray:
        """int64 [B] and losses, float32 [B, 2], a column a direction -> what to rank instead, of the same shape.

        NaN for a loss that is not finite. Both columns of ``batch`` and ``alignment`` are one score, of the mean
        loss of both directions.
        """
        if self.score == "sample":
            return losses
        loss = losses.mean(axis=1, dtype=np.float64)
        finite = np.isfinite(loss)
        found = np.full(len(ids), np.nan, dtype=np.float32)
        if finite.any():
            of_score = self._batch if self.score == "batch" else self._alignment
            found[finite] = of_score(ids[finite], loss[finite])
        return np.stack([found, found], axis=1)

    def _batch(self, ids: np.ndarray, loss: np.ndarray) -> np.ndarray:
        mean = self._state["score_mean"]
        # a first visit has no earlier score to be averaged with, and none is made up for it
        before = np.where(np.isnan(mean[ids]), loss.mean(), mean[ids])
        mean[ids] = self.score_decay * before + (1 - self.score_decay) * loss.mean()
        return mean[ids]

    def _alignment(self, ids: np.ndarray, loss: np.ndarray) -> np.ndarray:
        losses, reference, epochs = (self._state[f"score_{name}"] for name in ("losses", "reference", "epochs"))
        if not epochs:
            raise ValueError("score: alignment needs observe_reference before the first losses of an epoch")
        losses[(epochs - 1) % self.window_epochs, ids] = loss
        aligned = correlation(losses[:, ids].astype(np.float64), reference)
        return -aligned if self.high_is_noise else aligned

    def state_dict(self) -> State:
        return dict(self._state)

    def load_state_dict(self, state: State) -> None:
        self._state = {name: state[name] for name in self._state}


def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float64 [K, B] and [K] -> float64 [B] in [-1, 1]: Pearson's, over the rows where a column is not NaN.

    0 for a column with fewer than three such rows, or where one of the two does not change: nothing is known.
    """
    known = ~np.isnan(one)
    count = np.maximum(known.sum(axis=0), 1)
    pair = [np.where(known, values, 0) for values in (one, other[:, None])]
    x, y = (np.where(known, values - values.sum(axis=0) / count, 0) for values in pair)
    spread = np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0))
    usable = (count >= 3) & (spread > 1e-12)
    return np.where(usable, (x * y).sum(axis=0) / np.where(usable, spread, 1), 0).clip(-1, 1)
