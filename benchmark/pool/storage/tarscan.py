"""One pass over a tar shard: where each sample's image and caption lie, and what was skipped and why.

Members of a sample stand next to each other and share the
name up to the first dot of the base name, as webdataset writes and groups them. Of images the last bytes alone are
read.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmark.pool.samples import TAIL
from benchmark.pool.storage.decode import MAX_IMAGE_BYTES, MAX_JSON_BYTES, SampleFault, caption_from
from benchmark.pool.storage.names import file_system, is_remote
from benchmark.pool.storage.tarheaders import Member, Read, TarFault, members

REMOTE_BLOCK = 8 << 20

IMAGE_SUFFIXES = (b"jpg", b"jpeg", b"png", b"webp")
TXT, JSON = b"txt", b"json"
_USED = frozenset((*IMAGE_SUFFIXES, TXT, JSON))


@dataclass
class Scan:
    """The samples of a shard, in its order."""

    image_start: list[int] = field(default_factory=list)
    image_length: list[int] = field(default_factory=list)
    caption_start: list[int] = field(default_factory=list)
    caption_length: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    """Index into ``IMAGE_SUFFIXES``; 128 more for a caption in JSON."""
    keys: list[bytes] = field(default_factory=list)
    check: list[int] = field(default_factory=list)
    """CRC-32 of the caption's bytes and of the image's last ``TAIL``."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Samples left out, by reason."""
    fault: str = ""
    """Why the scan stopped before the end of the shard, "" if it did not."""


def scan_shard(name: str) -> Scan:
    """Scan a shard; one that is no whole tar gives the samples before the fault. Raises OSError and the like."""
    scan = Scan()
    try:
        with opened(name) as (read, size):
            _scan(read, size, scan)
    except TarFault as error:
        scan.fault = str(error)
    return scan


@contextmanager
def opened(name: str) -> Iterator[tuple[Read, int]]:
    """How to read a shard from front to back, and its bytes. Raises OSError and the like."""
    if is_remote(name):
        files, path = file_system(name)
        with files.open(path, "rb", block_size=REMOTE_BLOCK, cache_type="readahead") as file:
            yield _reader(file), int(file.size)
        return
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield lambda offset, length: os.pread(descriptor, length, offset), os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def split_name(name: bytes) -> tuple[bytes, bytes] | None:
    """Key (with folders) and lower-case suffix: the base name is cut at its first dot. None for other names."""
    folder, slash, base = name.rpartition(b"/")
    stem, dot, suffix = base.partition(b".")
    return (folder + slash + stem, suffix.lower()) if stem and dot else None


def _scan(read: Read, total: int, scan: Scan) -> None:
    key: bytes | None = None
    group: dict[bytes, Member] = {}
    repeated = is_dotted = False
    try:
        for member in members(read, total):
            named = split_name(member.name)
            if named is None:
                continue
            if named[0] != key:
                _close(read, scan, key, group, repeated, is_dotted)
                key, group, repeated, is_dotted = named[0], {}, False, False
            suffix = named[1]
            if suffix in _USED:
                repeated |= suffix in group
                group[suffix] = member
            is_dotted |= suffix.rpartition(b".")[2] in IMAGE_SUFFIXES and suffix not in _USED
    finally:
        _close(read, scan, key, group, repeated, is_dotted)


def _close(
    read: Read, scan: Scan, key: bytes | None, group: dict[bytes, Member], repeated: bool, is_dotted: bool
) -> None:
    """Take the members of one key as a sample, or count why not."""
    if key is None or not group:
        scan.skipped.update({"name_dotted": 1} if is_dotted else {})
        return
    images = [suffix for suffix in IMAGE_SUFFIXES if suffix in group]
    caption = group.get(TXT) or group.get(JSON)
    is_json = TXT not in group
    reason = _reason(read, group, images, caption, is_json, repeated)
    if reason:
        scan.skipped[reason] += 1
        return
    assert caption is not None
    image = group[images[0]]
    scan.image_start.append(image.start)
    scan.image_length.append(image.length)
    scan.caption_start.append(caption.start)
    scan.caption_length.append(caption.length)
    scan.kind.append(IMAGE_SUFFIXES.index(images[0]) + 128 * is_json)
    scan.keys.append(key)
    tail = min(TAIL, image.length)
    words = zlib.crc32(read(caption.start, caption.length))
    scan.check.append(zlib.crc32(read(image.start + image.length - tail, tail), words))


def _reason(
    read: Read,
    group: dict[bytes, Member],
    images: list[bytes],
    caption: Member | None,
    is_json: bool,
    repeated: bool,
) -> str:
    """Why the members of one key are no sample, "" if they are."""
    if repeated or len(images) > 1:
        return "member_repeated"
    if any(member.is_sparse for member in group.values()):
        return "member_sparse"
    if not images:
        return "image_missing"
    length = group[images[0]].length
    if not length or length > MAX_IMAGE_BYTES:
        return "image_too_large" if length else "image_empty"
    if caption is None:
        return "caption_missing"
    if caption.length > MAX_JSON_BYTES:
        return "caption_too_long"
    try:
        caption_from(read(caption.start, caption.length), is_json)
    except SampleFault as fault:
        return fault.reason
    return ""


def _reader(file: Any) -> Read:
    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return bytes(file.read(length))

    return read
