"""A pool of tar shards: every sample is read by its place in the index, in any order, from any process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmark.pool.samples import Pixels, Pool, PoolError, Sample, SampleError, digest_of
from benchmark.pool.storage.build import index_shards
from benchmark.pool.storage.byteranges import ByteRanges
from benchmark.pool.storage.decode import SampleFault, caption_from, image_from, pixels_from
from benchmark.pool.storage.index import ShardIndex, load_index
from benchmark.pool.storage.names import expand, is_remote, sources
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
    """Samples of tar shards; pickles as the path of its index, whose arrays all processes share."""

    def __init__(self, index: ShardIndex, decode_size: int | None = None, cache: ShardCache | None = None) -> None:
        self.index, self.cache = index, cache
        self.decode_size = decode_size
        """Smallest side, in pixels, that a JPEG may be decoded to; None decodes all of it."""
        self.num_samples, self.fingerprint = index.num_samples, index.fingerprint
        self._sources = sources([shard.name for shard in index.shards])
        self._ranges = ByteRanges()
        self._keys: dict[int, str] = {}

    @classmethod
    def open(
        cls, shards: str | Iterable[str], decode_size: int | None = None, cache: ShardCache | None = None
    ) -> ShardPool:
        """The pool of all shards of the patterns, indexed now unless that was done before. Raises PoolError.

        The path of an index (``.npz``) stands for its shards.
        """
        if isinstance(shards, str) and shards.endswith(".npz"):
            path = Path(shards)
            index = index_shards([shard.name for shard in load_index(path).shards], path)
        else:
            names = expand(shards)
            if not names:
                raise PoolError(f"no shards match {shards}")
            index = index_shards(names)
        faulty = [shard for shard in index.shards if shard.fault]
        if faulty:
            logger.warning(
                "%d of %d shards have faults and may lack samples (python -m benchmark.pool inspect %s): %s %s",
                *(len(faulty), len(index.shards), index.path, faulty[0].name, faulty[0].fault),
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
        return self.index.key(sample_id).decode("utf-8", "backslashreplace")

    def shard_of(self, sample_id: int) -> str:
        self._check(sample_id)
        return self.index.shards[self.index.shard_of(sample_id)].name

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
        return Sample(*self._decoded(sample_id, image_from))

    def read_pixels(self, sample_id: int) -> Pixels:
        """Raises as ``read``."""
        return Pixels(*self._decoded(sample_id, pixels_from))

    def _decoded(self, sample_id: int, decode: Callable[[bytes, int | None], T]) -> tuple[T, str]:
        image, caption, is_json = self.read_bytes(sample_id)
        try:
            return decode(image, self.decode_size), caption_from(caption, is_json)
        except SampleFault as fault:
            place = f"sample {sample_id} ({self.key(sample_id)} in {self.shard_of(sample_id)})"
            raise SampleError(fault.reason, f"{place}: {fault.reason}: {fault}") from fault

    def caption(self, sample_id: int) -> str:
        """The caption alone; the image is not decoded."""
        _, caption, is_json = self.read_bytes(sample_id)
        try:
            return caption_from(caption, is_json)
        except SampleFault as fault:
            raise SampleError(fault.reason, f"sample {sample_id} ({self.key(sample_id)}): {fault}") from fault

    def read_bytes(self, sample_id: int) -> tuple[bytes, bytes, bool]:
        """Bytes of the image and of the caption as they stand in the shard, and whether the latter is JSON."""
        self._check(sample_id)
        arrays = self.index.arrays
        number = self.index.shard_of(sample_id)
        image = int(arrays["image_block"][sample_id]) * BLOCK
        image_end = image + int(arrays["image_length"][sample_id])
        caption = int(arrays["caption_block"][sample_id]) * BLOCK
        caption_end = caption + int(arrays["caption_length"][sample_id])
        is_json = int(arrays["kind"][sample_id]) >= 128
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
                self.index.shards[number].stamp.size,
                int(first[number]),
                int(last[number]),
                partial(self._from_its_place, number),
            )
            for number in np.flatnonzero(last >= 0).tolist()
        ]

    def _range(self, number: int, start: int, length: int) -> bytes:
        """Bytes of a shard, from its copy if there is one."""
        if self.cache is not None:
            size = self.index.shards[number].stamp.size
            data = self.cache.read(self._key_of(number), size, start, length)
            if data is not None:
                return data
        return self._from_its_place(number, start, length)

    def _from_its_place(self, number: int, start: int, length: int) -> bytes:
        shard = self.index.shards[number]
        return self._ranges.read(shard.name, start, length, shard.stamp)

    def _key_of(self, number: int) -> str:
        """Names a shard's copy, by its name, state and samples' checksums, since some servers tell no state."""
        if number not in self._keys:
            shard = self.index.shards[number]
            checks = self.index.arrays["check"][self.index.starts[number] : self.index.starts[number + 1]]
            state = (shard.name, str(shard.stamp.size), shard.stamp.version)
            self._keys[number] = digest_of([*state, checks.tobytes()])
        return self._keys[number]

    def _check(self, sample_id: int) -> None:
        if not 0 <= sample_id < self.num_samples:
            raise PoolError(f"the pool has samples 0 to {self.num_samples - 1}, not {sample_id}")


def _reopened(path: str, fingerprint: str, decode_size: int | None, cache: ShardCache | None) -> ShardPool:
    index = load_index(Path(path), verify=False)
    if index.fingerprint != fingerprint:
        raise PoolError(f"{path} was built anew after the pool was opened: start again")
    return ShardPool(index, decode_size, cache)
