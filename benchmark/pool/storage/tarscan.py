"""One pass over a tar shard: where each sample's image and caption lie, and what was skipped and why.

Members of a sample stand next to each other and share the
name up to the first dot of the base name, as webdataset writes and groups them. Of images the last bytes alone are
read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from benchmark.pool.samples import TAIL
from benchmark.pool.storage.byteranges import ByteRanges
from benchmark.pool.storage.decode import (
    CAPTION_FIELD,
    MAX_JSON_BYTES,
    SampleFault,
    captions_from,
    record_of,
)
from benchmark.pool.storage.format import Format, Reader, Scan, check_of, entries, image_fault, lines
from benchmark.pool.storage.index import ShardIndex
from benchmark.pool.storage.names import file_system, is_remote
from benchmark.pool.storage.tarheaders import Member, Read, TarFault, members

REMOTE_BLOCK = 8 << 20

IMAGE_SUFFIXES = (b"jpg", b"jpeg", b"png", b"webp")
TXT, JSON = b"txt", b"json"


@dataclass(frozen=True, kw_only=True)
class TarFormat(Format):
    """Tar shards. As they always were, captions are read from the shards; otherwise the index keeps them."""

    kind: ClassVar[str] = "tar"
    is_divided: ClassVar[bool] = False
    json: str = ""
    """The field of the sample's JSON that is its caption; "" is its text, else the field ``caption``."""
    image_suffix: str = ""
    """Suffixes of images, such as ``jpg;webp``; "" is ``IMAGE_SUFFIXES``."""
    caption_suffix: str = ""
    """That of captions; "" is ``txt``, else ``json``; with ``json`` that of the JSON."""
    key: str = ""
    """The field of the sample's JSON that is its key; "" is its name in the shard."""

    @property
    def is_plain(self) -> bool:
        return self == TarFormat()

    @property
    def texts(self) -> tuple[str, ...]:
        return ("key",) if self.is_plain else ("key", "caption")

    def told(self) -> dict[str, Any] | None:
        return None if self.is_plain else super().told()

    @property
    def images(self) -> tuple[bytes, ...]:
        return tuple(self.image_suffix.encode().lower().split(b";")) if self.image_suffix else IMAGE_SUFFIXES

    @property
    def entry(self) -> tuple[bytes, ...]:
        """Suffixes of the member that holds the caption, the first that is there."""
        if self.caption_suffix:
            return (self.caption_suffix.encode().lower(),)
        return (JSON,) if self.json else (TXT, JSON)

    def scan(self, name: str) -> list[Scan]:
        """One that is no whole tar gives the samples before the fault."""
        scan = Scan()
        try:
            with opened(name) as (read, size):
                _Shard(self, read, scan).scan(size)
        except TarFault as error:
            scan.fault = str(error)
        return [scan]

    def reader(self, index: ShardIndex) -> Reader:
        return TarReader(index)


class TarReader(Reader):
    """Reads the files themselves."""

    def __init__(self, index: ShardIndex) -> None:
        super().__init__(index)
        self.ranges = ByteRanges()

    def read(self, number: int, start: int, length: int) -> bytes:
        shard = self.index.shards[number]
        return self.ranges.read(shard.name, start, length, shard.stamp)

    def size(self, number: int) -> int:
        return self.index.shards[number].stamp.size


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


class _Shard:
    """One shard on its way into a ``Scan``."""

    def __init__(self, form: TarFormat, read: Read, scan: Scan) -> None:
        self.form, self.read, self.into = form, read, scan
        self.used = frozenset((*form.images, *form.entry, *((JSON,) if form.key else ())))

    def scan(self, total: int) -> None:
        """Raises TarFault; what stands before the fault is taken in."""
        key: bytes | None = None
        group: dict[bytes, Member] = {}
        repeated = is_dotted = False
        try:
            for member in members(self.read, total):
                named = split_name(member.name)
                if named is None:
                    continue
                if named[0] != key:
                    self._close(key, group, repeated, is_dotted)
                    key, group, repeated, is_dotted = named[0], {}, False, False
                suffix = named[1]
                if suffix in self.used:
                    repeated |= suffix in group
                    group[suffix] = member
                is_dotted |= suffix.rpartition(b".")[2] in self.form.images and suffix not in self.used
        finally:
            self._close(key, group, repeated, is_dotted)

    def _close(self, key: bytes | None, group: dict[bytes, Member], repeated: bool, is_dotted: bool) -> None:
        """Take the members of one key as a sample, or count why not."""
        if key is None or not group:
            self.into.skipped.update({"name_dotted": 1} if is_dotted else {})
            return
        images = [suffix for suffix in self.form.images if suffix in group]
        reason = self._reason(group, images, repeated)
        if not reason:
            try:
                self._take(key, group, images[0])
            except SampleFault as fault:
                reason = fault.reason
        if reason:
            self.into.skipped[reason] += 1

    def _reason(self, group: dict[bytes, Member], images: list[bytes], repeated: bool) -> str:
        """Why the members of one key are no sample, "" if they may be."""
        if repeated or len(images) > 1:
            return "member_repeated"
        if any(member.is_sparse for member in group.values()):
            return "member_sparse"
        if not images:
            return "image_missing"
        return image_fault(group[images[0]].length)

    def _take(self, key: bytes, group: dict[bytes, Member], suffix: bytes) -> None:
        form, image = self.form, group[suffix]
        name = next((name for name in form.entry if name in group), None)
        if name is None:
            raise SampleFault("caption_missing", "no caption")
        caption = group[name]
        is_json = name == JSON or bool(form.json)
        data = self._small(caption)
        found = captions_from(data, is_json, form.json or CAPTION_FIELD)
        tail = self.read(image.start + image.length - min(TAIL, image.length), min(TAIL, image.length))
        if not form.is_plain:
            if not is_json and form.captions != "first":
                found = lines(found[0])
            key = self._field(group) if form.key else key
            for entry in entries(found, form.captions):
                self.into.add(key, (image.start, image.length), tail, entry)
            return
        self.into.image_start.append(image.start)
        self.into.image_length.append(image.length)
        self.into.caption_start.append(caption.start)
        self.into.caption_length.append(caption.length)
        self.into.kind.append(IMAGE_SUFFIXES.index(suffix) + 128 * is_json)
        self.into.keys.append(key)
        self.into.check.append(check_of(tail, data))

    def _small(self, member: Member) -> bytes:
        if member.length > MAX_JSON_BYTES:
            raise SampleFault("caption_too_long", f"{member.length} bytes")
        return self.read(member.start, member.length)

    def _field(self, group: dict[bytes, Member]) -> bytes:
        data = self._small(group[JSON]) if JSON in group else b"{}"
        value = record_of(data.decode("utf-8", "replace")).get(self.form.key)
        if not isinstance(value, str | int) or value == "":
            raise SampleFault("key_missing", f"'{self.form.key}' is {type(value).__name__}")
        return str(value).encode("utf-8", "surrogatepass")


def _reader(file: Any) -> Read:
    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return bytes(file.read(length))

    return read
