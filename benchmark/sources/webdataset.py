"""Image-caption pairs in tar shards as img2dataset and webdataset write them: CC3M, CC12M, SBU, COCO, your own."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field

import numpy as np

from benchmark.options import NOT_IDENTITY, require
from benchmark.pool import PairSet, PoolError, SampleError, Source, data_folder
from benchmark.storage.imagefolder import LazyImages
from benchmark.storage.names import expand
from benchmark.storage.shards import ShardPool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WebDataset(Source):
    """A pool of tar shards; the shards are indexed when first used (``python -m benchmark.pool index``)."""

    name: str
    """Label of the pool in run names and tables, such as ``cc12m_plus``."""
    shards: str = field(default="", metadata=NOT_IDENTITY)
    """Patterns such as ``/data/cc12m/{00000..01242}.tar::/data/sbu/*.tar``; "" is all tar files below
    ``$SCAN_BENCH_DATA/<name>``."""
    num_samples: int | None = field(default=None, metadata=NOT_IDENTITY)
    """Size that plans count on before the data is read. Training uses what the shards hold."""
    heldout_shards: str = field(default="", metadata=NOT_IDENTITY)
    """Patterns of shards for retrieval; none may be among ``shards``."""

    def __post_init__(self) -> None:
        plain = bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name))
        require(plain, "name", "letters, digits, '_', '-' and '.' (it becomes part of folder names)", self.name)
        require(self.num_samples is None or self.num_samples >= 1, "num_samples", "at least 1", self.num_samples)

    @property
    def label(self) -> str:
        return self.name

    def expected_samples(self) -> int | None:
        return self.num_samples

    def training_pool(self) -> ShardPool:
        pool = self._open(self._pattern())
        if self.num_samples is not None and pool.num_samples != self.num_samples:
            share = pool.num_samples / self.num_samples
            logger.warning(
                "%s holds %d samples, %.1f %% of the %d that num_samples says",
                *(self.name, pool.num_samples, 100 * share, self.num_samples),
            )
        return pool

    def pairs(self) -> PairSet:
        """All pairs of ``heldout_shards``, an image a caption; those whose image is damaged are left out."""
        if not self.heldout_shards:
            return super().pairs()
        shared = set(expand(self.heldout_shards)) & set(expand(self._pattern()))
        if shared:
            raise PoolError(f"{self.name}: {min(shared)} is both in shards and in heldout_shards")
        pool = self._open(self.heldout_shards)
        ids: list[int] = []
        captions: list[str] = []
        for sample_id in range(pool.num_samples):
            try:
                captions.append(pool.read(sample_id).caption)
                ids.append(sample_id)
            except SampleError as error:
                logger.warning("left out of the held-out pairs: %s", error)
        images = LazyImages(ids, lambda i: pool.read(i).image, pool.fingerprint)
        return PairSet(f"{self.name}-heldout", images, captions, np.arange(len(ids), dtype=np.int64))

    def _pattern(self) -> str:
        return self.shards or f"{data_folder('', self.name)}/**/*.tar"

    def _open(self, pattern: str) -> ShardPool:
        try:
            return ShardPool.open(pattern)
        except PoolError as error:
            raise PoolError(
                f"{self.name}: {error} (looked for {pattern}; docs/data.md says how to get the data, then check it"
                f" with: python -m benchmark.pool inspect '{pattern}')"
            ) from error
