"""Images that are files of their own, with captions from a list: each thousand rows of the list are a shard.

The list is a table (``tables``), annotations (COCO's), or a folder in which images and captions lie side by side.
Whether an image changed is asked of all of them when a pool is opened, and of each as it is read.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from benchmark.pool.samples import TAIL, PoolError, digest_of
from benchmark.pool.storage import byteranges
from benchmark.pool.storage.annotations import Captioned, from_coco, from_karpathy
from benchmark.pool.storage.byteranges import ABSENT, Stamp, retried
from benchmark.pool.storage.decode import (
    CAPTION_FIELD,
    MAX_JSON_BYTES,
    SampleFault,
    captions_from,
    captions_of,
)
from benchmark.pool.storage.format import (
    Entry,
    Format,
    Reader,
    Scan,
    check_of,
    entries,
    image_fault,
    key_of,
    lines,
    span,
)
from benchmark.pool.storage.index import ShardIndex
from benchmark.pool.storage.names import is_of_held_out, is_remote
from benchmark.pool.storage.tarheaders import BLOCK

ROWS = 1000
"""Samples of a shard."""
THREADS = 16
"""They wait for the disk or the network."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class Row(NamedTuple):
    """An image and what its caption is."""

    file: str
    """Path from the list's root."""
    caption: object
    """A text, UTF-8 bytes, a list of them, None where it is missing, or a ``Beside``."""
    key: object
    """A text, UTF-8 bytes or a number."""


class Beside(NamedTuple):
    """A caption in a file of its own, ``.txt`` or ``.json``."""

    file: str


class Listing(NamedTuple):
    """What a list holds."""

    rows: Sequence[Row]
    skipped: Counter[str]
    """What never became a row, by reason."""


@dataclass(frozen=True, kw_only=True)
class ListFormat(Format):
    """A list of images."""

    root: str = ""
    """The folder from which paths go, itself from the one that the list lies in."""

    @property
    def texts(self) -> tuple[str, ...]:
        return "key", "caption", "file"

    @abstractmethod
    def listing(self, name: str) -> Listing:
        """The rows of a list that is there. Raises PoolError for one that cannot be read."""

    def folder(self, name: str) -> str:
        return os.path.join(os.path.dirname(name), self.root)

    def stamp(self, name: str) -> Stamp:
        """The number of rows, and the states of the list and of all that it names."""
        if is_remote(name):
            raise PoolError(f"{name}: images in files of their own are read from disks alone: pack them into tars")
        own = byteranges.stamp(name)
        if own == ABSENT:
            return ABSENT
        rows, folder = self.listing(name).rows, self.folder(name)
        with ThreadPoolExecutor(THREADS) as threads:
            states = threads.map(lambda row: _state(folder, row), rows)
            return Stamp(len(rows), digest_of([self._version(own), *states]))

    def _version(self, own: Stamp) -> str:
        return f"{own.size} {own.version}"

    def scan(self, name: str) -> list[Scan]:
        """Reads captions and the ends of images."""
        rows, skipped = self.listing(name)
        folder, scans = self.folder(name), []
        with ThreadPoolExecutor(THREADS) as threads:
            for first in range(0, max(1, len(rows)), ROWS):
                scans.append(self._scan(folder, rows[first : first + ROWS], threads))
        scans[0].skipped.update(skipped)
        return scans

    def _scan(self, folder: str, rows: Sequence[Row], threads: ThreadPoolExecutor) -> Scan:
        scan, start = Scan(), 0
        for row, looked in zip(rows, threads.map(lambda row: self._looked(folder, row), rows), strict=True):
            if isinstance(looked, str):
                scan.skipped[looked] += 1
                continue
            file = os.fsencode(row.file)
            for entry in looked.captions:
                scan.add(looked.key, (start, looked.size), looked.tail, entry, file)
            start += -(-looked.size // BLOCK) * BLOCK
        return scan

    def _looked(self, folder: str, row: Row) -> _Looked | str:
        """What is to be known of a row, or why it is no sample."""
        path = os.path.join(folder, row.file)
        try:
            size, tail = retried(path, lambda: _end(path))
            if size < 0:
                return "image_missing"
            if reason := image_fault(size):
                return reason
            return _Looked(size, tail, key_of(row.key), self._entries(folder, row.caption))
        except SampleFault as fault:
            return fault.reason

    def _entries(self, folder: str, caption: object) -> list[Entry]:
        if not self.has_captions:
            return [Entry(b"", False)]
        if not isinstance(caption, Beside):
            return entries(captions_of(caption), self.captions)
        path, is_json = os.path.join(folder, caption.file), caption.file.lower().endswith(".json")
        if os.path.getsize(path) > MAX_JSON_BYTES:
            raise SampleFault("caption_too_long", f"more than {MAX_JSON_BYTES} bytes")
        found = captions_from(retried(path, Path(path).read_bytes), is_json, self.field)
        return entries(found if is_json or self.captions == "first" else lines(found[0]), self.captions)

    @property
    def has_captions(self) -> bool:
        """Whether it is a list of pairs, not of images alone."""
        return True

    @property
    def field(self) -> str:
        """Of JSON beside an image, its caption's."""
        return CAPTION_FIELD

    def reader(self, index: ShardIndex) -> Reader:
        return FileReader(index, self)


class _Looked(NamedTuple):
    size: int
    tail: bytes
    key: bytes
    captions: list[Entry]


class FileReader(Reader):
    """Reads whole files, each checked by its length and its last bytes."""

    def __init__(self, index: ShardIndex, form: ListFormat) -> None:
        super().__init__(index)
        self.form = form

    def read(self, number: int, start: int, length: int) -> bytes:
        first, last = self.index.starts[number : number + 2].tolist()
        starts = self.index.arrays["image_block"][first:last].astype(np.int64) * BLOCK
        return span(starts, lambda row: self._image(number, first + row), start, length)

    def _image(self, number: int, sample_id: int) -> bytes:
        folder = self.form.folder(self.index.shards[number].name)
        path = Path(folder, os.fsdecode(self.index.text("file", sample_id)))
        data = retried(str(path), path.read_bytes)
        check = check_of(data[-TAIL:], self.index.text("caption", sample_id))
        arrays = self.index.arrays
        if (len(data), check) != (int(arrays["image_length"][sample_id]), int(arrays["check"][sample_id])):
            raise PoolError(f"{path} changed after the pool was opened: start again, to have it indexed anew")
        return data


@dataclass(frozen=True, kw_only=True)
class FolderFormat(ListFormat):
    """A folder and those below it, as img2dataset's ``files``: ``KEY.jpg`` beside ``KEY.txt`` or ``KEY.json``.

    Its name ends in a slash, so that what it is called is no part of the content. Folders of validation and test
    splits below it are left out.
    """

    kind: ClassVar[str] = "folder"
    json: str = ""
    """The field of the JSON that is the caption; "" is the text, else the field ``caption``."""

    @property
    def field(self) -> str:
        return self.json or CAPTION_FIELD

    def _version(self, own: Stamp) -> str:
        return ""  # a folder's own time changes with every file in it, such as the index

    def listing(self, name: str) -> Listing:
        found: dict[str, dict[str, str]] = {}  # path without suffix -> kind of file -> suffix
        skipped, repeated = Counter[str](), set()
        for path in _files_below(name):
            stem, suffix = os.path.splitext(path)
            kind = "image" if suffix.lower() in SUFFIXES else suffix.lower()
            if kind in ("image", ".txt", ".json") and not stem.endswith("_stats"):  # img2dataset's, of a shard
                own = found.setdefault(stem, {})
                repeated.update([stem] if kind in own else [])
                own[kind] = suffix
        rows = []
        for stem, own in found.items():
            captions = [own[kind] for kind in ((".json",) if self.json else (".txt", ".json")) if kind in own]
            if stem in repeated:
                skipped["member_repeated"] += 1
            elif "image" not in own or not captions:
                skipped["caption_missing" if "image" in own else "image_missing"] += 1
            else:
                key = os.fsencode(os.path.basename(stem))
                rows.append(Row(stem + own["image"], Beside(stem + captions[0]), key))
        return Listing(rows, skipped)


@dataclass(frozen=True, kw_only=True)
class AnnotationFormat(ListFormat):
    """Photographs with several captions each: COCO's annotations, or one of Karpathy's files."""

    kind: ClassVar[str] = "annotations"
    split: str = ""
    """Karpathy's split, several with ``+``; "" is COCO's own format."""
    images: str = ""
    """The folder, below ``root``, in which the images of COCO's own format lie."""

    def listing(self, name: str) -> Listing:
        found: list[Captioned] = []
        for split in self.split.split("+"):
            found += from_karpathy(Path(name), split, _joined) if split else from_coco(Path(name), self.images)
        return Listing([Row(one.file, list(one.captions), os.path.basename(one.file)) for one in found], Counter())


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _files_below(folder: str) -> Iterator[str]:
    """Paths from ``folder``, sorted; hidden ones and those of held-out splits are left out."""
    for place, folders, files in os.walk(folder, followlinks=True):
        below = os.path.relpath(place, folder)
        kept = [name for name in folders if not name.startswith(".") and not is_of_held_out(name)]
        folders[:] = sorted(kept)
        for name in sorted(files):
            if not name.startswith("."):
                yield os.path.normpath(os.path.join(below, name))


def _state(folder: str, row: Row) -> str:
    """Sizes and times of the files of a row."""
    files = [row.file] + ([row.caption.file] if isinstance(row.caption, Beside) else [])
    told = []
    for file in files:
        try:
            status = os.stat(os.path.join(folder, file))
            told.append(f"{file} {status.st_size} {status.st_mtime_ns}")
        except (FileNotFoundError, NotADirectoryError):
            told.append(file)
    return "\n".join(told)


def _end(path: str) -> tuple[int, bytes]:
    """A file's size and last bytes; a size of -1 if there is none."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            return size, file.read(TAIL)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return -1, b""
