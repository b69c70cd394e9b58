"""A file of features in the cache, and the parts that it is joined of.

Letters in shapes: n items, d feature width.
"""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from benchmark.files import write_atomic
from benchmark.pool.samples import digest_of
from benchmark.pool.storage import arrayfile
from benchmark.pool.storage.arrayfile import ArrayFileError

logger = logging.getLogger(__name__)


class Entry:
    """An uncompressed ``.npz`` as ``arrayfile`` reads it; its parts, such files too, go when it is whole."""

    def __init__(self, folder: Path, told: Mapping[str, Any]) -> None:
        """``told``: all that the rows follow from, and how many there are (``n``)."""
        self.told = told
        self.path = folder / f"{digest_of([json.dumps(told, sort_keys=True)])}.npz"

    def load(self) -> np.ndarray | None:
        """The mapped rows, float32 [n, d]; None, with a warning for a damaged file, if they are not there."""
        return _load(self.path, self.told)

    def read(self, part: range) -> np.ndarray | None:
        """As ``load``, of a part."""
        return _load(*self._part(part))

    def write(self, part: range, rows: np.ndarray) -> None:
        """Raises OSError."""
        path, told = self._part(part)
        write_atomic(path, lambda file: _write(file, told, [rows]))

    def join(self, parts: Sequence[range]) -> None:
        """Put all parts into one file. Raises OSError, also if a part cannot be read any more."""
        paths = [self._part(part)[0] for part in parts]
        if paths == [self.path]:
            return
        write_atomic(self.path, lambda file: _write(file, self.told, self._chunks(parts)))
        for path in paths:
            path.unlink(missing_ok=True)

    def _chunks(self, parts: Sequence[range]) -> Iterator[np.ndarray]:
        for part in parts:
            rows = self.read(part)
            if rows is None:
                raise OSError(f"{self._part(part)[0]} was removed or damaged meanwhile")
            yield rows

    def _part(self, part: range) -> tuple[Path, Mapping[str, Any]]:
        """A part that is all of it needs no joining."""
        if len(part) == self.told["n"]:
            return self.path, self.told
        told = {**self.told, "n": len(part), "start": part.start}
        return self.path.with_suffix(f".{part.start:012d}.npz"), told


def _load(path: Path, told: Mapping[str, Any]) -> np.ndarray | None:
    try:
        header, arrays = arrayfile.load(path, verify=True)
        if {key: header.get(key) for key in told} != told:
            raise ArrayFileError(f"it holds {header}")
        return arrays["rows"].view("<f4").reshape(told["n"], header["d"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s: a damaged entry of the cache (%s); computing the features again", path, error)
        return None


def _write(file: BinaryIO, told: Mapping[str, Any], chunks: Iterable[np.ndarray]) -> None:
    """One chunk in memory at a time, and at least one."""
    chunks = iter(chunks)
    first = next(chunks)
    d = first.shape[1]
    header = np.frombuffer(json.dumps({**told, "d": d}).encode(), dtype=np.uint8)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(f"{arrayfile.HEADER}.npy", "w") as entry:
            np.lib.format.write_array(entry, header, allow_pickle=False)
        with archive.open("rows.npy", "w", force_zip64=True) as entry:
            shape = {"descr": "<f4", "fortran_order": False, "shape": (told["n"] * d,)}
            np.lib.format.write_array_header_1_0(entry, shape)
            entry.write(np.ascontiguousarray(first).data)
            for chunk in chunks:
                entry.write(np.ascontiguousarray(chunk).data)
