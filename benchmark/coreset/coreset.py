"""``coreset.npz``: the samples a run would keep, in a form that any other run can train on, at any budget.

A method that ranks samples leaves ``score`` with it; ``cut`` takes any share, ``ensemble`` joins several runs.
N below is the number of samples of the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from benchmark.files import write_atomic
from benchmark.pruner import pack, unpack
from benchmark.runs.folder import RunFolder
from benchmark.seeds import generator


class CoresetError(ValueError):
    """A file that is no coreset, one of another pool, or one that cannot be cut as asked."""


@dataclass(frozen=True)
class Coreset:
    """A subset of one pool, told by the pool's fingerprint."""

    keep: np.ndarray
    """bool [N]"""
    fingerprint: str
    method: str
    seed: int
    made_by: str
    """The run that chose it."""
    score: np.ndarray | None = None
    """float32 [N]: the most dispensable samples highest; None where the method only chose."""

    def cut(self, keep_fraction: float | None = None) -> np.ndarray:
        """bool [N]: the ``round(keep_fraction * N)`` least dispensable samples; None keeps ``keep``.

        Samples of one score are drawn at random from ``seed``, so no part of the pool goes first. Raises
        CoresetError for another budget than its own if there is no score.
        """
        total = len(self.keep)
        if keep_fraction is None or round(keep_fraction * total) == self.keep.sum():
            return self.keep
        if self.score is None:
            raise CoresetError(
                f"the coreset of {self.made_by} is a choice of {self.keep.mean():.3f} of its pool, without order:"
                f" it cannot be cut to {keep_fraction}; leave keep_fraction out, or ask that run for this budget"
            )
        return least(self.score, round(keep_fraction * total), self.seed)


def least(score: np.ndarray, count: int, seed: int) -> np.ndarray:
    """float [N] -> bool [N]: the ``count`` lowest scores, ties in a random order made from ``seed``."""
    chance = generator(seed, "coreset ties").random(len(score), dtype=np.float32)
    keep = np.zeros(len(score), dtype=bool)
    keep[np.lexsort((chance, score))[:count]] = True
    return keep


def ensemble(coresets: Sequence[Coreset]) -> Coreset:
    """One coreset of several of the same pool: by the mean of each sample's rank, its size the mean of theirs.

    A coreset without scores ranks what it keeps before all else. Raises CoresetError for different pools.
    """
    first = coresets[0]
    if len(coresets) == 1:
        return first
    for other in coresets[1:]:
        if other.fingerprint != first.fingerprint:
            raise CoresetError(
                f"the coresets of {first.made_by} and {other.made_by} are of different pools"
                f" ({first.fingerprint}, {other.fingerprint})"
            )
    ranks = np.zeros(len(first.keep))
    for coreset in coresets:
        ranks += _mean_ranks(~coreset.keep if coreset.score is None else coreset.score)
    score = (ranks / len(coresets)).astype(np.float32)
    count = round(float(np.mean([coreset.keep.sum() for coreset in coresets])))
    names = ", ".join(coreset.made_by for coreset in coresets)
    methods = "+".join(dict.fromkeys(coreset.method for coreset in coresets))
    return Coreset(least(score, count, first.seed), first.fingerprint, methods, first.seed, names, score)


def _mean_ranks(score: np.ndarray) -> np.ndarray:
    """float64 [N] in [0, 1]: each value's rank, equal values sharing the mean of theirs."""
    values, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle = last - (counts + 1) / 2 if len(values) else last
    return (middle / max(len(score) - 1, 1))[inverse]


def save_coreset(path: Path, coreset: Coreset) -> None:
    """Write atomically."""
    content = {
        "keep": pack(coreset.keep),
        "num_samples": np.int64(len(coreset.keep)),
        "fingerprint": coreset.fingerprint,
        "method": coreset.method,
        "fraction": np.float64(coreset.keep.mean()),
        "seed": np.int64(coreset.seed),
        "made_by": coreset.made_by,
    }
    if coreset.score is not None:
        content["score"] = coreset.score.astype(np.float32)
    write_atomic(path, lambda file: np.savez(file, **content))  # type: ignore[arg-type]


def load_coreset(path: Path, fingerprint: str | None = None) -> Coreset:
    """Read a coreset. Raises CoresetError for any other file, and for a pool of another fingerprint.

    In the folder of a run that is taken over from another sweep it is that one's.
    """
    path = path if path.exists() else RunFolder(path.parent).trained_in / path.name
    try:
        with np.load(path, allow_pickle=False) as content:
            keep = unpack(content["keep"], int(content["num_samples"]))
            texts = {name: str(content[name]) for name in ("fingerprint", "method", "made_by")}
            score = np.asarray(content["score"], dtype=np.float32) if "score" in content else None
            if score is not None and (score.shape != keep.shape or not np.isfinite(score).all()):
                raise ValueError("its scores are not a finite number a sample")
            coreset = Coreset(keep=keep, seed=int(content["seed"]), score=score, **texts)
    except FileNotFoundError:
        raise CoresetError(f"{path}: no such file; has the run that makes it finished?") from None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise CoresetError(f"{path}: not a coreset file: {error}") from error
    if fingerprint is not None and coreset.fingerprint != fingerprint:
        raise CoresetError(f"{path}: chosen from pool {coreset.fingerprint}, but this pool is {fingerprint}")
    return coreset
