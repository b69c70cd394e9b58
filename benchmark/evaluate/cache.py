"""Features computed once: an encoder that looks in a folder of arrays before it encodes.

An entry's name is a hash of everything its rows follow from: weights, preprocessing, layer, device and items. So
several tasks of one evaluation, and evaluations to come, share it, and no changed model or data finds a stale one.
Letters in shapes: n items, d feature width.
"""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from benchmark.files import write_atomic
from benchmark.models.encoder import Encoder, fingerprint_of_encoder
from benchmark.pool.samples import SampleError, Some, digest_of, fingerprint_of
from benchmark.pool.storage import arrayfile
from benchmark.pool.storage.arrayfile import ArrayFileError
from benchmark.runs.folder import RunFolder

logger = logging.getLogger(__name__)

VERSION = 2
"""Goes up with anything in the code that changes features."""
CHUNK = 4096
"""Items encoded, and held besides the mapped file, at once."""
UNREADABLE = -np.inf
"""Fills the row of an image that cannot be decoded."""
FOLDER = "features"
"""In a run's folder, unless ``SCAN_BENCH_FEATURES`` names another place or says ``off``."""


def cache_of(run: RunFolder) -> Path | None:
    """Where features of a run's model are kept; None if they are not to be kept."""
    said = os.environ.get("SCAN_BENCH_FEATURES", "")
    return None if said == "off" else Path(said) if said else run.encoded


class CachedEncoder:
    """An encoder in front of another one. What comes from the cache is read-only and mapped."""

    def __init__(
        self, inner: Encoder, folder: Path | None, report: Callable[[int, int, str], None] = lambda *_: None
    ) -> None:
        """``folder`` None keeps nothing. ``report`` gets items done, items in all, and their kind."""
        self.inner, self.folder, self.report = inner, folder, report
        self.has_text = inner.has_text
        self.left_out: dict[str, int] = {}
        """Images that cannot be decoded, of each set that was encoded and has any."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode_images(self, images: Sequence[Image.Image], layer: str = "joint") -> np.ndarray:
        """float32 [n, d]; lists in memory are known by their pixels, others by their ``fingerprint``."""
        options = {} if layer == "joint" else {"layer": layer}

        def encode(some: Any) -> np.ndarray:
            return self.inner.encode_images(some, **options)

        content = fingerprint_of(images) if self.folder is not None else ""
        rows = self._features(content, f"images {layer}", images, encode)
        if count := int(is_unreadable(rows).sum()):
            self.left_out[fingerprint_of(images) or str(len(self.left_out))] = count
        return rows

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, d]; texts are known by their letters."""
        content = digest_of(texts) if self.folder is not None else ""
        return self._features(content, "texts", texts, self.inner.encode_texts)

    def _features(
        self, content: str, kind: str, items: Sequence[Any], encode: Callable[[Any], np.ndarray]
    ) -> np.ndarray:
        model = fingerprint_of_encoder(self.inner) if content else ""
        chunks = self._chunks(items, kind, encode)
        if self.folder is None or not model:
            return np.concatenate(list(chunks))
        told = {"version": VERSION, "model": model, "kind": kind, "content": content, "n": len(items)}
        path = self.folder / f"{digest_of([json.dumps(told, sort_keys=True)])}.npz"
        found = _load(path, told)
        if found is not None and any(_can_be_read(items, i) for i in np.flatnonzero(is_unreadable(found))):
            found = None  # a damaged file was put right, and its name, length and last bytes are the same
        if found is None:
            try:
                write_atomic(path, lambda file: _write(file, told, chunks))
                found = _load(path, told)
            except OSError as error:
                logger.warning("%s: features cannot be kept (%s); computing them without", path, error)
        self.report(len(items), len(items), kind)
        return found if found is not None else np.concatenate(list(self._chunks(items, kind, encode)))

    def _chunks(
        self, items: Sequence[Any], kind: str, encode: Callable[[Any], np.ndarray]
    ) -> Iterator[np.ndarray]:
        """At least one, so that an empty sequence fails as the encoder fails on it."""
        for start in range(0, max(len(items), 1), CHUNK):
            self.report(start, len(items), kind)
            yield np.asarray(_encoded(items[start : start + CHUNK], encode), dtype="<f4")


def is_unreadable(rows: np.ndarray) -> np.ndarray:
    """Which rows of features are of images that could not be decoded, bool [n]."""
    flags: np.ndarray = rows[:, :1].max(axis=1, initial=UNREADABLE) == UNREADABLE
    return flags


def _encoded(items: Sequence[Any], encode: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Rows of all items, of those that cannot be decoded ``UNREADABLE``. Raises SampleError if none can be."""
    try:
        return encode(items)
    except SampleError as error:
        first = error
    readable = [place for place in range(len(items)) if _can_be_read(items, place)]
    if not readable:
        raise first
    rows = encode(Some(items, readable))
    whole = np.full((len(items), rows.shape[1]), UNREADABLE, dtype=np.float32)
    whole[readable] = rows
    return whole


def _can_be_read(items: Sequence[Any], place: int) -> bool:
    try:
        items[place]
    except SampleError as error:
        logger.warning("left out of the evaluation: %s", error)
        return False
    return True


def _load(path: Path, told: dict[str, Any]) -> np.ndarray | None:
    """The mapped rows of an entry, float32 [n, d]; None, with a warning for a damaged one, if it is not there."""
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


def _write(file: BinaryIO, told: dict[str, Any], chunks: Iterator[np.ndarray]) -> None:
    """An uncompressed ``.npz`` as ``arrayfile`` reads it, one chunk in memory at a time."""
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
