"""A pool that keeps what it has decoded: in later epochs a sample costs a copy of its pixels, not a read.

Every process keeps its own, within its part of ``train.image_cache_mb``; nothing is shared between processes.
Only samples that are visited enter, so one that is always pruned is still never read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
from PIL import Image

from benchmark.pool.samples import Pixels, Pool, PoolView, Sample

ENTRY_BYTES = 400
"""What a sample takes besides pixels and captions: its place in a dict that has just grown, id, tuples."""


class CachedPool(Pool):
    """``pool`` with samples kept as RGB bytes and captions; pickles without them."""

    def __init__(self, pool: Pool, limit_bytes: int) -> None:
        self.pool, self.limit_bytes = pool, limit_bytes
        self.num_samples, self.fingerprint = pool.num_samples, pool.fingerprint
        self._kept: dict[int, tuple[tuple[int, int], bytes, tuple[str, ...]]] = {}
        self._free = limit_bytes

    def __reduce__(self) -> tuple[object, ...]:
        return CachedPool, (self.pool, self.limit_bytes)

    def read(self, sample_id: int) -> Sample:
        """An image of its own at each call: what is done to it reaches no other. Faults are raised anew."""
        kept = self._kept.get(sample_id)
        if kept is not None:
            size, pixels, (caption, *further) = kept
            return Sample(Image.frombytes("RGB", size, pixels), caption, tuple(further))
        sample = self.pool.read(sample_id)
        self._keep(sample_id, sample.image.size, sample.image, (sample.caption, *sample.further))
        return sample

    def read_pixels(self, sample_id: int) -> Pixels:
        """As ``read``."""
        kept = self._kept.get(sample_id)
        if kept is not None:
            (width, height), pixels, (caption, *further) = kept
            return Pixels(np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3), caption, tuple(further))
        sample = self.pool.read_pixels(sample_id)
        height, width, _ = sample.pixels.shape
        self._keep(sample_id, (width, height), sample.pixels, (sample.caption, *sample.further))
        return sample

    def _keep(
        self, sample_id: int, size: tuple[int, int], pixels: Image.Image | np.ndarray, captions: tuple[str, ...]
    ) -> None:
        """Take a sample in if there is room; none makes room for another, since any order of ids is as likely."""
        texts = sum(map(sys.getsizeof, captions))
        needed = 3 * size[0] * size[1] + sys.getsizeof(b"") + texts + ENTRY_BYTES
        if needed <= self._free:
            self._free -= needed
            self._kept[sample_id] = (size, pixels.tobytes(), captions)

    def expect(self, ids: np.ndarray) -> AbstractContextManager[Callable[[int], None]]:
        return self.pool.expect(ids)

    @property
    def features(self) -> Mapping[str, np.ndarray]:
        return self.pool.features

    @property
    def truth(self) -> Mapping[str, np.ndarray]:
        return self.pool.truth

    @property
    def sample_classes(self) -> tuple[Sequence[str], np.ndarray] | None:
        return self.pool.sample_classes

    @property
    def shard_starts(self) -> np.ndarray | None:
        return self.pool.shard_starts

    @property
    def skipped(self) -> Mapping[str, int]:
        return self.pool.skipped

    def caption(self, sample_id: int) -> str:
        kept = self._kept.get(sample_id)
        return self.pool.caption(sample_id) if kept is None else kept[2][0]

    def key(self, sample_id: int) -> str:
        return self.pool.key(sample_id)

    def source_of(self, sample_id: int) -> str:
        return self.pool.source_of(sample_id)

    def view(
        self,
        needs: Sequence[str] = (),
        computed: Mapping[str, np.ndarray] | None = None,
        with_truth: bool = False,
    ) -> PoolView:
        return self.pool.view(needs, computed, with_truth)
