"""Where the samples of a list of shards lie: arrays in one file, mapped into memory.

Letters in shapes: N samples, S shards. Ids are dense and follow the order of the shards. A sample takes 21
bytes, the bytes of its key and 4 for the key's end; where captions or files are kept, as much for each of them.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.pool.samples import PoolError
from benchmark.pool.storage import arrayfile
from benchmark.pool.storage.arrayfile import ArrayFileError
from benchmark.pool.storage.byteranges import Stamp
from benchmark.pool.storage.names import is_remote

FORMAT, VERSION = "scan-bench shard index", 2

COLUMNS: dict[str, Any] = {
    "image_block": np.uint32,  # offset in blocks of 512 bytes: up to 2 TiB a shard
    "image_length": np.uint32,
    "caption_block": np.uint32,
    "caption_length": np.uint32,
    "kind": np.uint8,
    "check": np.uint32,
}
"""Arrays of N elements."""

TEXTS = {"key": "keys", "caption": "captions", "file": "files"}
"""Texts of the samples: what one is -> the array of all their bytes, beside that of their ends. Captions are there
unless they are read from the shards, files where each image is one."""


@dataclass(frozen=True)
class Shard:
    """What the index knows of a shard besides its samples."""

    name: str
    stamp: Stamp
    skipped: dict[str, int]
    fault: str
    part: int | None = None
    """Which one of its file's shards it is; None where a file is one."""

    @property
    def label(self) -> str:
        """``data/00000.tar``, ``data/train.parquet#3``."""
        return self.name if self.part is None else f"{self.name}#{self.part}"


class ShardIndex:
    """Where the samples of a list of shards lie."""

    def __init__(self, path: Path, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.path = path = path.absolute()  # a worker may stand in another folder
        self.fingerprint = str(header["fingerprint"])
        self.stored: dict[str, Any] | None = header.get("stored")
        """What ``Format.told`` said; None for tar shards as they always were."""
        self.shards = [
            Shard(_absolute(path.parent, name), Stamp(size, version), skipped, fault, *part)
            for name, size, version, skipped, fault, *part in header["shards"]
        ]
        self.arrays = arrays
        self.starts: np.ndarray = arrays["shard_starts"]  # int64 [S + 1]
        self.num_samples = int(self.starts[-1])
        self._starts = self.starts.tolist()

    def shard_of(self, sample_id: int) -> int:
        return bisect_right(self._starts, sample_id) - 1

    def text(self, what: str, sample_id: int) -> bytes:
        """A sample's text, of ``TEXTS``."""
        ends = self.arrays[f"{what}_end"]
        start = int(ends[sample_id - 1]) if sample_id else 0
        return self.arrays[TEXTS[what]][start : int(ends[sample_id])].tobytes()

    @property
    def files(self) -> list[tuple[str, Stamp]]:
        """The files of the shards, and the states in which they were scanned."""
        return list(dict.fromkeys((shard.name, shard.stamp) for shard in self.shards))

    @property
    def skipped(self) -> dict[str, int]:
        """Samples left out, by reason, over all shards; and shards that end too early."""
        total: Counter[str] = Counter()
        for shard in self.shards:
            total.update(shard.skipped)
            total.update({"shard_damaged": 1} if shard.fault else {})
        return dict(sorted(total.items()))

    def part(self, shard: int) -> dict[str, np.ndarray]:
        """The arrays of one shard, with ``key_length`` in place of ``key_end``: what ``save_index`` takes."""
        first, last = int(self.starts[shard]), int(self.starts[shard + 1])
        found = {name: self.arrays[name][first:last] for name in COLUMNS}
        for what, joined in TEXTS.items():
            if joined in self.arrays:
                ends = self.arrays[f"{what}_end"]
                start = int(ends[first - 1]) if first else 0
                lengths = np.diff(ends[first:last].astype(np.int64), prepend=start)
                found[f"{what}_length"] = lengths
                found[joined] = self.arrays[joined][start : start + int(lengths.sum())]
        return found


def load_index(path: Path, verify: bool = True) -> ShardIndex:
    """Raises PoolError if the file is not a whole index; ``verify`` checks it byte by byte."""
    try:
        header, arrays = arrayfile.load(path, verify)
        if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
            raise PoolError(f"{path} is not an index of this version")
        index = ShardIndex(path, header, arrays)
        ends = [f"{what}_end" for what, joined in TEXTS.items() if joined in arrays]
        lengths = {len(arrays[name]) for name in [*COLUMNS, "key_end", *ends]}
        types = all(arrays[name].dtype == dtype for name, dtype in COLUMNS.items())
        if lengths != {index.num_samples} or not types or len(index.starts) != len(index.shards) + 1:
            raise PoolError(f"{path} is damaged: its arrays do not fit together")
    except (ArrayFileError, OSError, KeyError, TypeError, IndexError, ValueError) as error:
        if isinstance(error, PoolError):
            raise
        raise PoolError(f"{path} cannot be read as an index: {type(error).__name__}: {error}") from error
    return index


def save_index(
    places: Sequence[Path],
    shards: Sequence[Shard],
    parts: Sequence[dict[str, np.ndarray]],
    stored: dict[str, Any] | None = None,
) -> Path:
    """Write the index of ``shards``, a part each, to the first place that can be written. Raises PoolError."""
    arrays = {n: np.concatenate([part[n] for part in parts]).astype(dtype) for n, dtype in COLUMNS.items()}
    for what, joined in TEXTS.items():
        if joined in parts[0]:
            texts = np.concatenate([part[joined] for part in parts])
            ends = np.cumsum(np.concatenate([part[f"{what}_length"] for part in parts]))
            arrays[f"{what}_end"] = ends.astype(np.uint32 if len(texts) < 1 << 32 else np.uint64)
            arrays[joined] = texts
    arrays["shard_starts"] = np.cumsum([0, *(len(part["kind"]) for part in parts)]).astype(np.int64)
    fingerprint = _fingerprint(shards, arrays)

    def header(path: Path) -> dict[str, Any]:
        rows = [
            [_relative(path.parent, s.name), s.stamp.size, s.stamp.version, s.skipped, s.fault]
            + ([] if s.part is None else [s.part])
            for s in shards
        ]
        told = {"format": FORMAT, "version": VERSION, "fingerprint": fingerprint, "shards": rows}
        return told if stored is None else {**told, "stored": stored}

    try:
        return arrayfile.save(places, header, arrays)
    except OSError as error:
        raise PoolError(f"the index cannot be kept: {error}") from error


def _fingerprint(shards: Sequence[Shard], arrays: dict[str, np.ndarray]) -> str:
    content = hashlib.sha256()
    for shard in shards:
        content.update(
            f"{shard.label.rpartition('/')[2]}\0{shard.stamp.size}\n".encode("utf-8", "surrogateescape")
        )
    for name in ("shard_starts", "image_length", "caption_length", "check", "keys", "key_end"):
        content.update(arrays[name].astype(arrays[name].dtype.newbyteorder("<")).data)
    return content.hexdigest()[:16]


def _relative(folder: Path, name: str) -> str:
    prefix = f"{folder.absolute()}/"
    return name[len(prefix) :] if name.startswith(prefix) else name


def _absolute(folder: Path, name: str) -> str:
    return name if is_remote(name) or name.startswith("/") else f"{folder}/{name}"
