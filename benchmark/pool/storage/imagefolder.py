"""Images in one folder a class: the list of files is made once and kept, the images are read when asked for.

Letters in shapes: N images, C classes.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from PIL import Image

from benchmark.pool.samples import TAIL, Pixels, Pool, PoolError, Sample, SampleError, digest_of
from benchmark.pool.storage import arrayfile
from benchmark.pool.storage.arrayfile import ArrayFileError, cache_folder
from benchmark.pool.storage.byteranges import retried
from benchmark.pool.storage.decode import MAX_IMAGE_BYTES, SampleFault, image_from, pixels_from

logger = logging.getLogger(__name__)

T = TypeVar("T")

THREADS = 16
"""They wait for the disk or the network."""
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
FORMAT, VERSION = "scan-bench file list", 2


class LazyImages(Sequence[Image.Image]):
    """Images that are decoded when they are taken out; a slice is lazy too."""

    def __init__(self, ids: Sequence[int], read: Callable[[int], Image.Image], content: str = "") -> None:
        """``content`` is a hash of all that ``read`` can give, such as a pool's fingerprint; "" if unknown."""
        self.ids, self.read, self.content = ids, read, content

    @cached_property
    def fingerprint(self) -> str:
        """A hash of these images and their order; "" if their content is not known."""
        return self.content and digest_of([self.content, np.asarray(self.ids, dtype="<i8").tobytes()])

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, place: int) -> Image.Image: ...
    @overload
    def __getitem__(self, place: slice) -> LazyImages: ...
    def __getitem__(self, place: int | slice) -> Image.Image | LazyImages:
        if isinstance(place, slice):
            return LazyImages(self.ids[place], self.read, self.content)
        return self.read(int(self.ids[place]))

    def __iter__(self) -> Iterator[Image.Image]:
        return map(self.read, map(int, self.ids))


class FolderPool(Pool):
    """Images alone, ids in the order of class folders and of names in them."""

    def __init__(self, folder: Path, listing: Path, decode_size: int | None = None) -> None:
        """``listing`` is the file that ``list_folder`` made. Raises PoolError if it is not whole."""
        self.folder, self.listing, self.decode_size = folder, listing, decode_size
        try:
            header, arrays = _load(listing, verify=False)
            self.classes: list[str] = [name for name, _ in header["folders"]]
            self.class_starts = arrays["starts"]  # int64 [C + 1]
            self._ends, self._names = arrays["name_end"], arrays["names"]
            self.fingerprint = str(header["fingerprint"])
            self._unused: dict[str, int] = header["unused"]
        except (ArrayFileError, OSError, KeyError) as error:
            raise PoolError(f"{listing} cannot be read: {error}; remove it to have it built anew") from error
        self.num_samples = int(self.class_starts[-1])

    def __reduce__(self) -> tuple[object, ...]:
        return FolderPool, (self.folder, self.listing, self.decode_size)

    @classmethod
    def open(cls, folder: Path, decode_size: int | None = None) -> FolderPool:
        """The pool of ``folder/<class>/*``. Raises PoolError if there is no image."""
        return cls(folder, list_folder(folder), decode_size)

    def labels(self) -> np.ndarray:
        """The index into ``classes`` of each image, int64 [N]."""
        return np.repeat(np.arange(len(self.classes), dtype=np.int64), np.diff(self.class_starts))

    @property
    def skipped(self) -> Mapping[str, int]:
        """Files and folders that are not read: other readers, torchvision's among them, may take more."""
        return self._unused

    @property
    def sample_classes(self) -> tuple[Sequence[str], np.ndarray]:
        return self.classes, self.labels()

    def key(self, sample_id: int) -> str:
        """Class folder and file name."""
        if not 0 <= sample_id < self.num_samples:
            raise PoolError(f"the pool has samples 0 to {self.num_samples - 1}, not {sample_id}")
        start = int(self._ends[sample_id - 1]) if sample_id else 0
        name = os.fsdecode(self._names[start : int(self._ends[sample_id])].tobytes())
        place = int(np.searchsorted(self.class_starts, sample_id, side="right")) - 1
        return f"{self.classes[place]}/{name}"

    def read(self, sample_id: int) -> Sample:
        """Raises SampleError for an image that is damaged, PoolError for one that cannot be read."""
        return Sample(self._decoded(sample_id, image_from), "")

    def read_pixels(self, sample_id: int) -> Pixels:
        """Raises as ``read``."""
        return Pixels(self._decoded(sample_id, pixels_from), "")

    def _decoded(self, sample_id: int, decode: Callable[[bytes, int | None], T]) -> T:
        path = self.folder / self.key(sample_id)
        try:
            return decode(_bytes(path), self.decode_size)
        except SampleFault as fault:
            raise SampleError(fault.reason, f"sample {sample_id} ({path}): {fault.reason}: {fault}") from fault

    def images(self, ids: Sequence[int] | None = None) -> LazyImages:
        """All images, or those of ``ids``, decoded when taken out; huge ones smaller."""
        chosen = range(self.num_samples) if ids is None else ids
        decode = partial(image_from, shrink_huge=True)
        return LazyImages(chosen, lambda i: self._decoded(i, decode), f"{self.fingerprint} {self.decode_size}")


def _bytes(path: Path) -> bytes:
    if (size := retried(str(path), path.stat).st_size) > MAX_IMAGE_BYTES:
        raise SampleFault("image_too_large", f"{size} bytes, more than {MAX_IMAGE_BYTES}")
    return retried(str(path), path.read_bytes)


def list_folder(folder: Path) -> Path:
    """The file that lists the images of ``folder``, made anew if one of them changed. Raises PoolError."""
    try:
        classes = list_classes(folder)
        with ThreadPoolExecutor(THREADS) as threads:
            listed = list(threads.map(lambda name: _files(folder / name), classes))
    except OSError as error:
        raise PoolError(f"{folder} cannot be read: {error.strerror}") from error
    states = [[name, digest_of(map(repr, found.files))] for name, found in zip(classes, listed, strict=True)]
    name = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:10]
    places = [folder / ".scan-bench-files.npz", cache_folder() / f"files-{name}.npz"]
    for place in places:
        if place.exists():
            try:
                if _load(place, verify=True)[0].get("folders") == states:
                    return place
                logger.warning("%s is out of date: listing %s again", place, folder)
            except (ArrayFileError, OSError) as error:
                logger.warning("%s; listing %s again", error, folder)
    return _save(places, folder, states, listed)


def list_classes(folder: Path) -> list[str]:
    """Names of the class folders, sorted. Raises OSError."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _load(path: Path, verify: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    header, arrays = arrayfile.load(path, verify)
    if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
        raise ArrayFileError(f"{path} is not a list of files of this version")
    return header, arrays


def _save(places: Sequence[Path], folder: Path, states: list[list[str]], listed: list[_Listed]) -> Path:
    names = [os.fsencode(file.name) for found in listed for file in found.files]
    if not names:
        raise PoolError(f"{folder} holds no images: expected one folder a class with {', '.join(SUFFIXES)} files")
    content, unused = hashlib.sha256(), Counter[str]()
    with ThreadPoolExecutor(THREADS) as threads:
        for (class_name, _), found in zip(states, listed, strict=True):
            paths = [folder / class_name / file.name for file in found.files]
            tails = threads.map(_tail, paths)
            told = [(file.name, file.size, tail) for file, tail in zip(found.files, tails, strict=True)]
            content.update(repr((class_name, told)).encode("utf-8", "surrogateescape"))
            unused.update(found.unused)
    header: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": content.hexdigest()[:16],
        "folders": states,
        "unused": dict(sorted(unused.items())),
    }
    arrays: dict[str, np.ndarray] = {
        "starts": np.cumsum([0, *(len(found.files) for found in listed)]).astype(np.int64),
        "name_end": np.cumsum([len(name) for name in names]).astype(np.uint64),
        "names": np.frombuffer(b"".join(names), dtype=np.uint8),
    }
    try:
        return arrayfile.save(places, lambda _place: header, arrays)
    except OSError as error:
        raise PoolError(f"the list of files of {folder} cannot be kept: {error}") from error


class _File(NamedTuple):
    name: str
    size: int
    """Bytes: a resized copy has the name, not the size."""
    changed: int
    """Time of its last change in ns."""


class _Listed(NamedTuple):
    files: list[_File]
    """Images of a folder, sorted."""
    unused: dict[str, int]


def _files(folder: Path) -> _Listed:
    files, unused = [], Counter[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                unused["folder_unused"] += 1
            elif entry.name.lower().endswith(SUFFIXES):
                status = entry.stat()
                files.append(_File(entry.name, status.st_size, status.st_mtime_ns))
            else:
                unused["file_unused"] += 1
    return _Listed(sorted(files), dict(unused))


def _tail(path: Path) -> bytes:
    """The last bytes of a file. Raises PoolError if it cannot be read."""

    def read() -> bytes:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return file.read(TAIL)

    return retried(str(path), read)
