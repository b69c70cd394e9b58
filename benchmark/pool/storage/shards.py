"""A pool of shards: every sample is read by its place in the index, in any order, from any process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmark.pool.samples import Pixels, Pool, PoolError, Sample, SampleError, digest_of
from benchmark.pool.storage.build import TARS, index_shards
from benchmark.pool.storage.decode import SampleFault, captions_from, image_from, pixels_from
from benchmark.pool.storage.format import Format
from benchmark.pool.storage.formats import format_of
from benchmark.pool.storage.index import ShardIndex, load_index
from benchmark.pool.storage.names import expand_to_train, is_remote, sources
from benchmark.pool.storage.shardcache import ShardCache, Want
from benchmark.pool.storage.tarheaders import BLOCK

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_GAP = 8 << 10
MAX_REMOTE_GAP = 256 << 10
"""Bytes between image and caption up to which one read takes both."""
PLACES = 1 << 20
"""Places of an epoch's order that are looked at together."""


class ShardPool(Pool):
    """Samples of shards; pickles as the path of its index, whose arrays all processes share."""

    def __init__(self, index: ShardIndex, decode_size: int | None = None, cache: ShardCache | None = None) -> None:
        self.index, self.cache = index, cache
        self.decode_size = decode_size
        """Smallest side, in pixels, that a JPEG may be decoded to; None decodes all of it."""
        self.num_samples, self.fingerprint = index.num_samples, index.fingerprint
        self._sources = sources([shard.name for shard in index.shards])
        self.reader = format_of(index).reader(index)
        self._keys: dict[int, str] = {}

    @classmethod
    def open(
        cls, shards: str | Iterable[str], decode_size: int | None = None, cache: ShardCache | None = None
    ) -> ShardPool:
        """The pool to train on of all tar shards of the patterns, indexed now unless that was done before.

        The path of an index (``.npz``) stands for its shards. Raises PoolError.
        """
        names, held_out = expand_to_train(shards)
        tell_held_out(held_out)
        if not names:
            raise PoolError(f"no shards match {shards}")
        return cls.of(names, None, decode_size, cache)

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        form: Format | None,
        decode_size: int | None = None,
        cache: ShardCache | None = None,
    ) -> ShardPool:
        """The pool of files of one format, indexed now unless that was done before; None is that of an index that
        is named, else tar. Raises PoolError."""
        path: Path | None = None
        if len(names) == 1 and names[0].endswith(".npz"):
            path = Path(names[0])
            index = load_index(path)
            if form is not None and form.told() != index.stored:
                was, due = (told or "tar shards" for told in (index.stored, form.told()))
                raise PoolError(f"{path} is an index of {was}, not of {due}: name the files themselves")
            names, form = [name for name, _ in index.files], format_of(index)
        index = index_shards(names, path, form=form or TARS)
        faulty = [shard for shard in index.shards if shard.fault]
        if faulty:
            logger.warning(
                "%d of %d shards have faults and may lack samples (python -m benchmark.pool inspect %s): %s %s",
                *(len(faulty), len(index.shards), index.path, faulty[0].label, faulty[0].fault),
            )
        return cls(index, decode_size, cache)

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (str(self.index.path), self.fingerprint, self.decode_size, self.cache)

    @property
    def shard_starts(self) -> np.ndarray:
        return self.index.starts

    @property
    def skipped(self) -> Mapping[str, int]:
        return self.index.skipped

    def key(self, sample_id: int) -> str:
        """The sample's name in its shard; names may repeat between shards."""
        self._check(sample_id)
        return self.index.text("key", sample_id).decode("utf-8", "backslashreplace")

    def shard_of(self, sample_id: int) -> str:
        """``data/00000.tar``; of a file of several shards with the number of this one, ``train.parquet#3``."""
        self._check(sample_id)
        return self.index.shards[self.index.shard_of(sample_id)].label

    def source_of(self, sample_id: int) -> str:
        self._check(sample_id)
        return self._sources[self.index.shard_of(sample_id)]

    @property
    def sample_classes(self) -> tuple[Sequence[str], np.ndarray] | None:
        """The sources, where there are several."""
        names = list(dict.fromkeys(self._sources))
        if len(names) < 2:
            return None
        return names, np.repeat([names.index(source) for source in self._sources], np.diff(self.index.starts))

    def source_counts(self) -> dict[str, int]:
        """Samples by source, in the order of the shards."""
        counts: dict[str, int] = {}
        for source, count in zip(self._sources, np.diff(self.index.starts).tolist(), strict=True):
            counts[source] = counts.get(source, 0) + count
        return counts

    def read(self, sample_id: int) -> Sample:
        """Raises SampleError for a sample that is damaged, PoolError for a shard that cannot be read."""
        image, (first, *further) = self._decoded(sample_id, image_from)
        return Sample(image, first, tuple(further))

    def read_pixels(self, sample_id: int) -> Pixels:
        """Raises as ``read``."""
        pixels, (first, *further) = self._decoded(sample_id, pixels_from)
        return Pixels(pixels, first, tuple(further))

    def _decoded(self, sample_id: int, decode: Callable[[bytes, int | None], T]) -> tuple[T, list[str]]:
        image, caption, is_json = self.read_bytes(sample_id)
        try:
            return decode(image, self.decode_size), self._captions(caption, is_json)
        except SampleFault as fault:
            place = f"sample {sample_id} ({self.key(sample_id)} in {self.shard_of(sample_id)})"
            raise SampleError(fault.reason, f"{place}: {fault.reason}: {fault}") from fault

    def caption(self, sample_id: int) -> str:
        """The caption alone; the image is not decoded, and not read where the index keeps captions."""
        self._check(sample_id)
        is_json = int(self.index.arrays["kind"][sample_id]) >= 128
        data = self.index.text("caption", sample_id) if self._keeps_captions else self.read_bytes(sample_id)[1]
        try:
            return self._captions(data, is_json)[0]
        except SampleFault as fault:
            raise SampleError(fault.reason, f"sample {sample_id} ({self.key(sample_id)}): {fault}") from fault

    def _captions(self, data: bytes, is_json: bool) -> list[str]:
        """Those that a visit may have; [""] in a pool of images alone."""
        if not self._keeps_captions:
            return captions_from(data, is_json)[:1]
        return captions_from(data, is_json) if data else [""]

    @property
    def _keeps_captions(self) -> bool:
        return "captions" in self.index.arrays

    def read_bytes(self, sample_id: int) -> tuple[bytes, bytes, bool]:
        """Bytes of the image and of the caption as they stand in the shard, and whether the latter is JSON; of a
        caption that the index keeps, as it has it."""
        self._check(sample_id)
        arrays = self.index.arrays
        number = self.index.shard_of(sample_id)
        image = int(arrays["image_block"][sample_id]) * BLOCK
        image_end = image + int(arrays["image_length"][sample_id])
        is_json = int(arrays["kind"][sample_id]) >= 128
        if self._keeps_captions:
            return self._range(number, image, image_end - image), self.index.text("caption", sample_id), is_json
        caption = int(arrays["caption_block"][sample_id]) * BLOCK
        caption_end = caption + int(arrays["caption_length"][sample_id])
        gap = max(image, caption) - min(image_end, caption_end)
        if gap <= (MAX_REMOTE_GAP if is_remote(self.index.shards[number].name) else MAX_GAP):
            start, end = min(image, caption), max(image_end, caption_end)
            data = self._range(number, start, end - start)
            return data[image - start : image_end - start], data[caption - start : caption_end - start], is_json
        return (
            self._range(number, image, image_end - image),
            self._range(number, caption, caption_end - caption),
            is_json,
        )

    def expect(self, ids: np.ndarray) -> AbstractContextManager[Callable[[int], None]]:
        """Shards are copied to the cache, if there is one, in the order of the ids."""
        return super().expect(ids) if self.cache is None else self.cache.ahead(self._wants(ids))

    def _wants(self, ids: np.ndarray) -> list[Want]:
        first = np.full(len(self.index.shards), len(ids), dtype=np.int64)
        last = np.full(len(self.index.shards), -1, dtype=np.int64)
        for start in range(0, len(ids), PLACES):  # in parts: a copy of all places would take 8 bytes an id
            part = np.searchsorted(self.index.starts, ids[start : start + PLACES], side="right") - 1
            np.minimum.at(first, part, np.arange(start, start + len(part)))
            np.maximum.at(last, part, np.arange(start, start + len(part)))
        return [
            Want(
                self._key_of(number),
                self.reader.size(number),
                int(first[number]),
                int(last[number]),
                partial(self.reader.read, number),
            )
            for number in np.flatnonzero(last >= 0).tolist()
        ]

    def _range(self, number: int, start: int, length: int) -> bytes:
        """Bytes of a shard, from its copy if there is one."""
        if self.cache is not None:
            data = self.cache.read(self._key_of(number), self.reader.size(number), start, length)
            if data is not None:
                return data
        return self.reader.read(number, start, length)

    def _key_of(self, number: int) -> str:
        """Names a shard's copy, by its name, state and samples' checksums, since some servers tell no state."""
        if number not in self._keys:
            shard = self.index.shards[number]
            checks = self.index.arrays["check"][self.index.starts[number] : self.index.starts[number + 1]]
            state = (shard.label, str(shard.stamp.size), shard.stamp.version)
            self._keys[number] = digest_of([*state, checks.tobytes()])
        return self._keys[number]

    def _check(self, sample_id: int) -> None:
        if not 0 <= sample_id < self.num_samples:
            raise PoolError(f"the pool has samples 0 to {self.num_samples - 1}, not {sample_id}")


def tell_held_out(names: Sequence[str]) -> None:
    """Warn of shards that are left out of a pool to train on."""
    if names:
        logger.warning(
            "%d shards of validation or test splits are not trained on (%s ...): a pattern that says the split in"
            " its own words takes them",
            *(len(names), names[0]),
        )


def _reopened(path: str, fingerprint: str, decode_size: int | None, cache: ShardCache | None) -> ShardPool:
    index = load_index(Path(path), verify=False)
    if index.fingerprint != fingerprint:
        raise PoolError(f"{path} was built anew after the pool was opened: start again")
    return ShardPool(index, decode_size, cache)
