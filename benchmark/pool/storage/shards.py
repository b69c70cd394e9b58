"""A pool of tar shards: every sample is read by its place in the index, in any order, from any process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmark.pool.samples import Pixels, Pool, PoolError, Sample, SampleError
from benchmark.pool.storage.build import index_shards
from benchmark.pool.storage.byteranges import ByteRanges
from benchmark.pool.storage.decode import SampleFault, caption_from, image_from, pixels_from
from benchmark.pool.storage.index import ShardIndex, load_index
from benchmark.pool.storage.names import expand, is_remote, sources
from benchmark.pool.storage.tarheaders import BLOCK

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_GAP = 8 << 10
MAX_REMOTE_GAP = 256 << 10
"""Bytes between image and caption up to which one read takes both."""


class ShardPool(Pool):
    """Samples of tar shards; pickles as the path of its index, whose arrays all processes share."""

    def __init__(self, index: ShardIndex, decode_size: int | None = None) -> None:
        self.index = index
        self.decode_size = decode_size
        """Smallest side, in pixels, that a JPEG may be decoded to; None decodes all of it."""
        self.num_samples, self.fingerprint = index.num_samples, index.fingerprint
        self._sources = sources([shard.name for shard in index.shards])
        self._ranges = ByteRanges()

    @classmethod
    def open(cls, shards: str | Iterable[str], decode_size: int | None = None) -> ShardPool:
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
        return cls(index, decode_size)

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (str(self.index.path), self.fingerprint, self.decode_size)

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
        shard = self.index.shards[self.index.shard_of(sample_id)]
        image = int(arrays["image_block"][sample_id]) * BLOCK
        image_end = image + int(arrays["image_length"][sample_id])
        caption = int(arrays["caption_block"][sample_id]) * BLOCK
        caption_end = caption + int(arrays["caption_length"][sample_id])
        is_json = int(arrays["kind"][sample_id]) >= 128
        gap = max(image, caption) - min(image_end, caption_end)
        if gap <= (MAX_REMOTE_GAP if is_remote(shard.name) else MAX_GAP):
            start, end = min(image, caption), max(image_end, caption_end)
            data = self._ranges.read(shard.name, start, end - start, shard.stamp)
            return data[image - start : image_end - start], data[caption - start : caption_end - start], is_json
        return (
            self._ranges.read(shard.name, image, image_end - image, shard.stamp),
            self._ranges.read(shard.name, caption, caption_end - caption, shard.stamp),
            is_json,
        )

    def _check(self, sample_id: int) -> None:
        if not 0 <= sample_id < self.num_samples:
            raise PoolError(f"the pool has samples 0 to {self.num_samples - 1}, not {sample_id}")


def _reopened(path: str, fingerprint: str, decode_size: int | None) -> ShardPool:
    index = load_index(Path(path), verify=False)
    if index.fingerprint != fingerprint:
        raise PoolError(f"{path} was built anew after the pool was opened: start again")
    return ShardPool(index, decode_size)
