"""``coreset.npz``: the samples a run kept, in a form that any other run can train on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from benchmark.files import write_atomic
from benchmark.pruner import pack, unpack


class CoresetError(ValueError):
    """A file that is no coreset, or one of another pool."""


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
    write_atomic(path, lambda file: np.savez(file, **content))  # type: ignore[arg-type]


def load_coreset(path: Path, fingerprint: str | None = None) -> Coreset:
    """Read a coreset. Raises CoresetError for any other file, and for a pool of another fingerprint."""
    try:
        with np.load(path, allow_pickle=False) as content:
            keep = unpack(content["keep"], int(content["num_samples"]))
            texts = {name: str(content[name]) for name in ("fingerprint", "method", "made_by")}
            coreset = Coreset(keep=keep, seed=int(content["seed"]), **texts)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise CoresetError(f"{path}: not a coreset file: {error}") from error
    if fingerprint is not None and coreset.fingerprint != fingerprint:
        raise CoresetError(f"{path}: chosen from pool {coreset.fingerprint}, but this pool is {fingerprint}")
    return coreset
