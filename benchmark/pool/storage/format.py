"""What kinds of files have in common that hold samples: a state, samples to be listed once, bytes to be read.

A file holds one shard (a tar) or several (the row groups of a Parquet file, each thousand rows of a table). A
shard is a row of bytes, and a sample's image a range of it, whether it lies so on disk or not: where images are
values of their own, they stand one after the other, each from a multiple of 512.
"""

from __future__ import annotations

import json
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np

from benchmark.pool.samples import TAIL
from benchmark.pool.storage import byteranges
from benchmark.pool.storage.byteranges import Stamp
from benchmark.pool.storage.decode import CAPTION_FIELD, MAX_IMAGE_BYTES, SampleFault
from benchmark.pool.storage.index import ShardIndex
from benchmark.pool.storage.tarheaders import BLOCK

CAPTIONS = ("first", "random", "all")
"""Which of an image's captions: the first; one of them a visit, drawn anew; each of them, a sample each."""


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
    captions: list[bytes] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """Samples left out, by reason."""
    fault: str = ""
    """Why the scan stopped before the end of the shard, "" if it did not."""

    def add(self, key: bytes, image: tuple[int, int], tail: bytes, caption: Entry, file: bytes = b"") -> None:
        """A sample whose image is ``image`` (start, length) and ends in ``tail``, and whose caption is kept."""
        self.image_start.append(image[0])
        self.image_length.append(image[1])
        self.caption_start.append(0)
        self.caption_length.append(len(caption.data))
        self.kind.append(128 * caption.is_json)
        self.keys.append(key)
        self.captions.append(caption.data)
        self.files.append(file)
        self.check.append(check_of(tail, caption.data))


@dataclass(frozen=True)
class Entry:
    """A sample's caption as the index keeps it."""

    data: bytes
    """UTF-8."""
    is_json: bool
    """An object that has several, ``{"caption": [...]}``."""


def check_of(tail: bytes, caption: bytes) -> int:
    """What tells one image with its caption from others of the same lengths."""
    return zlib.crc32(tail[-TAIL:], zlib.crc32(caption))


def entries(captions: Sequence[str], which: str) -> list[Entry]:
    """An image's captions as its samples have them: one sample, or with ``all`` one a caption."""
    if which == "random" and len(captions) > 1:
        return [Entry(json.dumps({CAPTION_FIELD: list(captions)}).encode(), True)]
    return [Entry(text.encode(), False) for text in (captions if which == "all" else captions[:1])]


def key_of(cell: object) -> bytes:
    """A key as the index has it. Raises SampleFault key_missing."""
    if isinstance(cell, bytes | str | int) and cell not in (b"", ""):
        return cell if isinstance(cell, bytes) else str(cell).encode("utf-8", "surrogatepass")
    raise SampleFault("key_missing", f"it is {type(cell).__name__}")


def lines(text: str) -> list[str]:
    """The captions of a text that has one a line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def image_fault(length: int) -> str:
    """Why an image of so many bytes is no sample's, "" if it may be."""
    if not length:
        return "image_empty"
    return "image_too_large" if length > MAX_IMAGE_BYTES else ""


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """int64 [n] -> int64 [n]: where values of these lengths begin, each at a multiple of 512."""
    padded = -(-lengths // BLOCK) * BLOCK
    return np.cumsum(padded) - padded


class Reader(ABC):
    """Reads the shards of an index; one of its own in every process."""

    def __init__(self, index: ShardIndex) -> None:
        self.index = index

    @abstractmethod
    def read(self, number: int, start: int, length: int) -> bytes:
        """``length`` bytes of a shard. Raises PoolError that names the file, also if it changed."""

    def size(self, number: int) -> int:
        """Bytes of a shard, as far as samples take them."""
        part = slice(*self.index.starts[number : number + 2].tolist())
        ends = self.index.arrays["image_block"][part].astype(np.int64) * BLOCK
        return int((ends + self.index.arrays["image_length"][part]).max(initial=0))


def span(starts: np.ndarray, value: Callable[[int], bytes], start: int, length: int) -> bytes:
    """Bytes of values that lie one after the other from ``starts``, int64 [n], with zeros between."""
    row = int(np.searchsorted(starts, start, side="right")) - 1
    data = value(row)
    if start == starts[row] and length == len(data):
        return data
    found = bytearray(length)
    while True:
        place = int(starts[row]) - start
        part = data[max(0, -place) : max(0, length - place)]
        found[max(0, place) : max(0, place) + len(part)] = part
        row += 1
        if row == len(starts) or starts[row] >= start + length:
            return bytes(found)
        data = value(row)


@dataclass(frozen=True, kw_only=True)
class Format(ABC):
    """A kind of file. Its fields are how samples are read from it: an index is of one format."""

    kind: ClassVar[str]
    is_divided: ClassVar[bool] = True
    """Whether a file holds several shards."""
    captions: str = "first"

    @property
    def texts(self) -> tuple[str, ...]:
        """What the index keeps of each sample as text, of ``index.TEXTS``."""
        return "key", "caption"

    def told(self) -> dict[str, Any] | None:
        """What the index says of it; None for tar shards as they always were."""
        return {"kind": self.kind, **asdict(self)}

    def stamp(self, name: str) -> Stamp:
        """The present state of a file. Raises PoolError if that cannot be found out."""
        return byteranges.stamp(name)

    @abstractmethod
    def scan(self, name: str) -> list[Scan]:
        """The shards of a file; what can be read of a damaged one. Raises PoolError, OSError and the like."""

    @abstractmethod
    def reader(self, index: ShardIndex) -> Reader:
        """What reads an index of this format."""
