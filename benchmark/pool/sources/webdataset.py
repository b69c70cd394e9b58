"""Image-caption pairs in tar shards as img2dataset and webdataset write them: CC3M, CC12M, SBU, COCO, your own."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from benchmark.options import LATER_OPTION, NOT_IDENTITY, check_option, require
from benchmark.pool.samples import PoolError, SampleError
from benchmark.pool.source import PairSet, Source, data_folder, draft_label
from benchmark.pool.storage.imagefolder import LazyImages
from benchmark.pool.storage.names import expand, is_remote
from benchmark.pool.storage.shardcache import ShardCache, default_folder
from benchmark.pool.storage.shards import ShardPool

logger = logging.getLogger(__name__)

CAPTIONS = ("one", "lines", "merge")


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
    decode_size: int | None = field(default=None, metadata=LATER_OPTION, compare=False)  # it is the same data
    """Training images that are JPEGs are decoded at 1/2, 1/4 or 1/8 if no side falls below so many pixels; None
    decodes them whole."""
    heldout_shards: str = field(default="", metadata=NOT_IDENTITY)
    """Patterns of shards for retrieval; none may be among ``shards``."""
    heldout_captions: str = field(default="one", metadata=LATER_OPTION)
    """``one`` a held-out image; ``lines``: a line of its text each, as clip_benchmark writes shards for retrieval;
    ``merge``: samples whose images are the same bytes are one image, as img2dataset leaves COCO's captions."""

    cache_gb: float = field(default=0.0, metadata=NOT_IDENTITY, compare=False)
    """Billions of bytes of training shards that each machine keeps on its own disk, 0 for none: for shards on an
    object store or a network file system."""
    cache_folder: str = field(default="", metadata=NOT_IDENTITY, compare=False)
    """Where; "" is a folder in ``$SLURM_TMPDIR``, else in ``$TMPDIR``. Runs that say the same folder share it."""

    def __post_init__(self) -> None:
        plain = bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name))
        require(plain, "name", "letters, digits, '_', '-' and '.' (it becomes part of folder names)", self.name)
        require(self.num_samples is None or self.num_samples >= 1, "num_samples", "at least 1", self.num_samples)
        require(self.decode_size is None or self.decode_size >= 1, "decode_size", "at least 1", self.decode_size)
        require(self.cache_gb >= 0, "cache_gb", "at least 0", self.cache_gb)
        check_option("heldout_captions", self.heldout_captions, CAPTIONS)

    @property
    def label(self) -> str:
        return draft_label(self.name, self.decode_size)

    def expected_samples(self) -> int | None:
        return self.num_samples

    def training_pool(self) -> ShardPool:
        folder = Path(self.cache_folder).absolute() if self.cache_folder else default_folder()
        cache = ShardCache(folder, int(self.cache_gb * 1e9)) if self.cache_gb else None
        pool = self._open(self._pattern(), self.decode_size, cache)
        if self.num_samples is not None and pool.num_samples != self.num_samples:
            share = pool.num_samples / self.num_samples
            logger.warning(
                "%s holds %d samples, %.1f %% of the %d that num_samples says",
                *(self.name, pool.num_samples, 100 * share, self.num_samples),
            )
        return pool

    def check_pool(self) -> None:
        """Looks for each local shard and opens none: an index of millions of pairs is made where there is time."""
        pattern = self._pattern()
        names = [pattern] if pattern.endswith(".npz") else expand(pattern)
        absent = [name for name in names if not is_remote(name) and not Path(name).exists()]
        if absent or not names:
            self._tell(PoolError(f"{absent[0]} is not there" if absent else f"no shards match {pattern}"), pattern)

    def pairs(self) -> PairSet:
        """All pairs of ``heldout_shards``; those whose image is damaged are left out."""
        if not self.heldout_shards:
            return super().pairs()
        shared = set(expand(self.heldout_shards)) & set(expand(self._pattern()))
        if shared:
            raise PoolError(f"{self.name}: {min(shared)} is both in shards and in heldout_shards")
        pool = self._open(self.heldout_shards)
        ids: list[int] = []
        captions: list[str] = []
        owner: list[int] = []  # the place in ids of each caption's image
        place_of: dict[bytes, int] = {}
        of_several_lines = 0
        for sample_id in range(pool.num_samples):
            try:
                text = pool.read(sample_id).caption
            except SampleError as error:
                logger.warning("left out of the held-out pairs: %s", error)
                continue
            place = len(ids)
            if self.heldout_captions == "merge":
                place = place_of.setdefault(hashlib.sha256(pool.read_bytes(sample_id)[0]).digest(), place)
            if place == len(ids):
                ids.append(sample_id)
            several = [text]
            of_several_lines += sum(bool(line.strip()) for line in text.splitlines()) > 1
            if self.heldout_captions == "lines":
                several = [line.strip() for line in text.splitlines() if line.strip()]
            captions += several
            owner += [place] * len(several)
        if self.heldout_captions == "one" and 2 * of_several_lines >= max(1, len(ids)):
            logger.warning(
                "%s: %d of %d held-out texts have several lines and are read as one caption each; if a line is a"
                " caption, say heldout_captions: lines",
                *(self.name, of_several_lines, len(ids)),
            )
        images = LazyImages(ids, lambda i: pool.read(i).image, pool.fingerprint)
        return PairSet(f"{self.name}-heldout", images, captions, np.array(owner, dtype=np.int64))

    def _pattern(self) -> str:
        return self.shards or f"{data_folder('', self.name)}/**/*.tar"

    def _open(self, pattern: str, decode_size: int | None = None, cache: ShardCache | None = None) -> ShardPool:
        try:
            return ShardPool.open(pattern, decode_size, cache)
        except PoolError as error:
            self._tell(error, pattern)

    def _tell(self, error: PoolError, pattern: str) -> NoReturn:
        raise PoolError(
            f"{self.name}: {error} (looked for {pattern}; docs/data.md says how to get the data, then check it"
            f" with: python -m benchmark.pool inspect '{pattern}')"
        ) from error
