"""Images in tar shards with small members beside them, ``KEY.cls``, ``KEY.npy`` or ``KEY.txt``.

A shard is scanned once; where its images lie, and what the small members hold, is kept in one file of arrays. A
split that is measured must be whole, so whatever is wrong with a shard is an error here.
Letters in shapes: n images.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmark.pool.samples import TAIL, PoolError, SampleError
from benchmark.pool.storage import arrayfile
from benchmark.pool.storage.arrayfile import ArrayFileError, cache_folder
from benchmark.pool.storage.byteranges import ABSENT, ByteRanges, Stamp, retried, stamp
from benchmark.pool.storage.decode import MAX_CAPTION_BYTES, MAX_IMAGE_BYTES, SampleFault, image_from
from benchmark.pool.storage.imagefolder import LazyImages
from benchmark.pool.storage.names import is_remote
from benchmark.pool.storage.tarheaders import Member, Read, TarFault, members
from benchmark.pool.storage.tarscan import IMAGE_SUFFIXES, opened, split_name

logger = logging.getLogger(__name__)

FORMAT, VERSION = "scan-bench labelled shards", 1
BESIDE = ("cls", "npy", "txt")
"""Suffixes of the small members that are kept."""
FILE = ".scan-bench-labelled.npz"
THREADS = 8
"""They wait for the disk or the network."""
MAX_TEXT_BYTES = 16 << 20


class LabelledShards:
    """The images of a list of shards, in their order, and what stands beside each."""

    def __init__(
        self, names: Sequence[str], stamps: Sequence[Stamp], header: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> None:
        self.names, self._stamps = names, stamps
        self.fingerprint = str(header["fingerprint"])
        self._arrays = arrays
        self._ranges = ByteRanges()

    def __len__(self) -> int:
        return len(self._arrays["shard"])

    @classmethod
    def open(cls, names: Sequence[str]) -> LabelledShards:
        """Scan the shards, unless that was done and none changed since. Raises PoolError naming the member."""
        with ThreadPoolExecutor(THREADS) as threads:
            stamps = list(threads.map(stamp, names))
        for name, state in zip(names, stamps, strict=True):
            if state == ABSENT:
                raise PoolError(f"{name} is not there, one of {len(names)} shards: get the set again")
        told = {
            "format": FORMAT,
            "version": VERSION,
            "shards": [[name, state.size, state.version] for name, state in zip(names, stamps, strict=True)],
        }
        places = _places(names)
        for place in places:
            found = _stored(place, told)
            if found is not None:
                return cls(names, stamps, *found)
        with ThreadPoolExecutor(THREADS) as threads:
            scans = list(threads.map(_scanned, names))
        arrays = _arrays(scans)
        if not len(arrays["shard"]):
            raise PoolError(f"{names[0]}: {len(names)} shards without an image")
        header = {**told, "fingerprint": _fingerprint(scans)}
        try:
            arrayfile.save(places, lambda _place: header, arrays)
        except OSError as error:
            logger.warning("the list of what %s holds cannot be kept: %s", names[0], error)
        return cls(names, stamps, header, arrays)

    def place(self, index: int, suffix: str) -> str:
        """``s0000003.cls in .../0.tar``, for messages."""
        shard = self.names[int(self._arrays["shard"][index])]
        return f"{_shown(_part(self._arrays, 'key', index))}.{suffix} in {shard}"

    def beside(self, suffix: str) -> list[bytes]:
        """The content of each image's member of this suffix. Raises PoolError for one that is missing or empty."""
        found = [_part(self._arrays, suffix, i) for i in range(len(self))]
        for i, content in enumerate(found):
            if not content:
                raise PoolError(f"{self.place(i, suffix)} is missing or empty")
        return found

    def images(self) -> LazyImages:
        """All of them, decoded when taken out; huge ones smaller."""
        return LazyImages(range(len(self)), self._read, self.fingerprint)

    def _read(self, index: int) -> Image.Image:
        shard = int(self._arrays["shard"][index])
        start, length = int(self._arrays["start"][index]), int(self._arrays["length"][index])
        try:
            data = self._ranges.read(self.names[shard], start, length, self._stamps[shard])
            return image_from(data, shrink_huge=True)
        except SampleFault as fault:
            raise SampleError(fault.reason, f"{self.place(index, 'image')}: {fault.reason}: {fault}") from fault


def read_text(name: str) -> str | None:
    """A small text file, local or at an address; None if there is none. Raises PoolError that names it."""
    state = stamp(name)
    if state == ABSENT:
        return None
    if state.size > MAX_TEXT_BYTES:
        raise PoolError(f"{name}: {state.size} bytes, more than a list of names takes")
    data = ByteRanges().read(name, 0, state.size, state) if state.size else b""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PoolError(f"{name} is not UTF-8: {error}") from error


@dataclass
class _Scan:
    """A shard's images."""

    start: list[int] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    key: list[bytes] = field(default_factory=list)
    tail: list[bytes] = field(default_factory=list)
    """The last bytes of each image: for the fingerprint."""
    beside: dict[str, list[bytes]] = field(default_factory=lambda: {suffix: [] for suffix in BESIDE})


def _scanned(name: str) -> _Scan:
    return retried(name, lambda: _scan(name))


def _scan(name: str) -> _Scan:
    scan = _Scan()
    key: bytes | None = None
    group: dict[str, Member] = {}
    try:
        with opened(name) as (read, total):
            for member in members(read, total):
                named = split_name(member.name)
                if named is None:
                    continue
                if named[0] != key:
                    _close(read, scan, key, group, name)
                    key, group = named[0], {}
                suffix = "image" if named[1] in IMAGE_SUFFIXES else named[1].decode("ascii", "replace")
                if suffix == "image" or suffix in BESIDE:
                    if suffix in group:
                        raise PoolError(f"{_shown(named[0])} in {name} has several members of the kind {suffix}")
                    group[suffix] = member
            _close(read, scan, key, group, name)
    except TarFault as error:
        raise PoolError(f"{name} {error}; get it again") from error
    return scan


def _close(read: Read, scan: _Scan, key: bytes | None, group: dict[str, Member], name: str) -> None:
    """Take the members of one key in."""
    if key is None or not group:
        return
    where = f"{_shown(key)} in {name}"
    image = group.pop("image", None)
    if image is None:
        raise PoolError(f"{where} has {' and '.join(f'.{suffix}' for suffix in group)} and no image")
    if image.is_sparse or any(member.is_sparse for member in group.values()):
        raise PoolError(f"{where} is stored as a sparse file: pack it without tar's --sparse")
    if not 0 < image.length <= MAX_IMAGE_BYTES:
        raise PoolError(f"{where} has an image of {image.length} bytes")
    for suffix, member in group.items():
        if member.length > MAX_CAPTION_BYTES:
            told = f"{member.length} bytes, more than {MAX_CAPTION_BYTES}"
            raise PoolError(f"{_shown(key)}.{suffix} in {name}: {told}")
    tail = min(TAIL, image.length)
    scan.start.append(image.start)
    scan.length.append(image.length)
    scan.key.append(key)
    scan.tail.append(read(image.start + image.length - tail, tail))
    for suffix in BESIDE:
        own = group.get(suffix)
        scan.beside[suffix].append(read(own.start, own.length) if own else b"")


def _shown(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")


def _arrays(scans: Sequence[_Scan]) -> dict[str, np.ndarray]:
    counts = [len(scan.start) for scan in scans]
    arrays: dict[str, np.ndarray] = {
        "shard": np.repeat(np.arange(len(scans), dtype=np.int64), counts),
        "start": np.array([start for scan in scans for start in scan.start], dtype=np.int64),
        "length": np.array([length for scan in scans for length in scan.length], dtype=np.int64),
    }
    texts = {"key": [key for scan in scans for key in scan.key]}
    texts |= {suffix: [one for scan in scans for one in scan.beside[suffix]] for suffix in BESIDE}
    for name, parts in texts.items():
        arrays[name] = np.frombuffer(b"".join(parts), dtype=np.uint8)
        arrays[f"{name}_end"] = np.cumsum([len(part) for part in parts]).astype(np.int64)
    return arrays


def _part(arrays: dict[str, np.ndarray], name: str, index: int) -> bytes:
    ends = arrays[f"{name}_end"]
    start = int(ends[index - 1]) if index else 0
    return arrays[name][start : int(ends[index])].tobytes()


def _fingerprint(scans: Sequence[_Scan]) -> str:
    content = hashlib.sha256()
    for scan in scans:
        beside = [scan.beside[suffix] for suffix in BESIDE]
        for row in zip(scan.key, scan.length, scan.tail, *beside, strict=True):
            content.update(repr(row).encode())
    return content.hexdigest()[:16]


def _places(names: Sequence[str]) -> list[Path]:
    """Where what is known of the shards may lie, best first."""
    kept = cache_folder() / f"labelled-{hashlib.sha256(repr(list(names)).encode()).hexdigest()[:10]}.npz"
    return [kept] if is_remote(names[0]) else [Path(names[0]).parent / FILE, kept]


def _stored(path: Path, told: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Header and arrays of a file that is of these shards as they are."""
    try:
        header, arrays = arrayfile.load(path, verify=True)
    except FileNotFoundError:
        return None
    except (ArrayFileError, OSError) as error:
        logger.warning("%s: %s; the shards are scanned again", path, error)
        return None
    return (header, arrays) if {key: header.get(key) for key in told} == told else None
