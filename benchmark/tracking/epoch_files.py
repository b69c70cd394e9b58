"""Files that a run leaves of an epoch: marks, losses and candidates; N is the number of samples of the pool.

What saves a file returns its name and checksum: a run's checkpoint holds them, and files are checked against them
when it goes on and before they are read again.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmark.coreset.coreset import CoresetError
from benchmark.files import write_atomic
from benchmark.pruner import pack
from benchmark.runs.folder import RunFolder


class EpochFileError(ValueError):
    """A file that is gone or damaged; the message names it and what to do."""


def check_files(folder: RunFolder, checksums: Mapping[str, int]) -> None:
    """Raises EpochFileError unless every file that a run has left of its epochs is there as it was written."""
    for name, checksum in checksums.items():
        path = folder.marks / name
        problem = None
        try:
            if zlib.crc32(path.read_bytes()) != checksum:
                problem = "is damaged"
        except FileNotFoundError:
            problem = "is gone"
        if problem:
            raise EpochFileError(
                f"{path} {problem}: what the run found in that epoch cannot be told any more. Bring the file back,"
                " or remove the run's folder to train anew"
            )


def save_marks(folder: RunFolder, epoch: int, marks: np.ndarray) -> dict[str, int]:
    """Keep what an epoch marked, uint8 [N], in a run's folder; written atomically."""
    return _save(folder, "epoch", epoch, marks)


def load_marks(folder: RunFolder, num_samples: int) -> Iterator[np.ndarray]:
    """The marks of a run's epochs in order, one at a time. Raises CoresetError for a damaged file."""
    for path in sorted(folder.marks.glob("epoch-*.npy")):
        try:
            marks = np.load(path, allow_pickle=False, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise CoresetError(f"{path}: cannot be read: {error}") from error
        if marks.shape != (num_samples,) or marks.dtype != np.uint8:
            raise CoresetError(f"{path}: expected uint8 [{num_samples}], got {marks.dtype} {list(marks.shape)}")
        yield np.asarray(marks)


def save_losses(folder: RunFolder, epoch: int, losses: np.ndarray) -> dict[str, int]:
    """Keep an epoch's losses, float16 [N], in a run's folder; written atomically."""
    return _save(folder, "losses", epoch, losses)


def save_candidates(folder: RunFolder, epoch: int, masks: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Keep the candidates that an epoch found, bool [N] by kind."""
    return _save(folder, "candidates", epoch, np.stack([pack(mask) for mask in masks.values()]))


def losses_of(folder: RunFolder, num_samples: int) -> dict[int, np.ndarray]:
    """Epoch -> losses, float16 [N], mapped from disk. Raises ValueError for a file of another pool."""
    return _load(folder, "losses", np.float16, (num_samples,))


def candidates_of(folder: RunFolder, kinds: tuple[str, ...], num_samples: int) -> dict[int, dict[str, np.ndarray]]:
    """Epoch -> candidates as bits, uint8 [ceil(N / 8)] by kind; ``unpack`` makes masks of them."""
    packed = _load(folder, "candidates", np.uint8, (len(kinds), -(-num_samples // 8)))
    return {epoch: dict(zip(kinds, rows, strict=True)) for epoch, rows in packed.items()}


def _save(folder: RunFolder, what: str, epoch: int, array: np.ndarray) -> dict[str, int]:
    name, content = f"{what}-{epoch:04d}.npy", io.BytesIO()
    np.save(content, array)
    write_atomic(folder.marks / name, lambda file: file.write(content.getbuffer()))
    return {name: zlib.crc32(content.getbuffer())}


def _load(folder: RunFolder, what: str, dtype: Any, shape: tuple[int, ...]) -> dict[int, np.ndarray]:
    found = {}
    for path in sorted(folder.marks.glob(f"{what}-*.npy")):
        match = re.fullmatch(rf"{what}-(\d+)\.npy", path.name)
        if match is None:
            continue
        array = np.load(path, allow_pickle=False, mmap_mode="r")
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(f"{path}: expected {np.dtype(dtype)} {list(shape)}, got {array.dtype} {array.shape}")
        found[int(match[1])] = array
    return found
