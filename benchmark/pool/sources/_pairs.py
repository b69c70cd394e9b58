"""What sources of image-caption pairs have in common, whatever they read: a pool of shards, held-out pairs."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar, NoReturn

import numpy as np

from benchmark.options import LATER_OPTION, NOT_IDENTITY, check_option, require
from benchmark.pool.samples import PoolError, Sample, SampleError
from benchmark.pool.source import PairSet, Source, draft_label
from benchmark.pool.storage.format import CAPTIONS, Format, lines
from benchmark.pool.storage.imagefolder import LazyImages
from benchmark.pool.storage.names import is_remote
from benchmark.pool.storage.shardcache import ShardCache, default_folder
from benchmark.pool.storage.shards import ShardPool, tell_held_out

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pairs(Source):
    """A source of image-caption pairs."""

    options: ClassVar[tuple[str, str]]
    """Which options say where the training data lies, and where the held-out pairs."""
    name: str
    """Label of the pool in run names and tables, such as ``cc12m_plus``."""
    captions: str = field(default="first", metadata=LATER_OPTION)
    """Of an image's captions the ``first``; one of them a visit, drawn from seed, epoch and id (``random``); or
    ``all``, each a sample of its own. Several are a list (in JSON, in a column), or the lines of a text file; as
    ``first`` a text file is one caption."""
    num_samples: int | None = field(default=None, metadata=NOT_IDENTITY)
    """Size that plans count on before the data is read. Training uses what is there."""
    decode_size: int | None = field(default=None, metadata=LATER_OPTION, compare=False)  # it is the same data
    """Training images that are JPEGs are decoded at 1/2, 1/4 or 1/8 if no side falls below so many pixels; None
    decodes them whole."""
    cache_gb: float = field(default=0.0, metadata=NOT_IDENTITY, compare=False)
    """Billions of bytes of training shards that each machine keeps on its own disk, 0 for none: for shards on an
    object store or a network file system."""
    cache_folder: str = field(default="", metadata=NOT_IDENTITY, compare=False)
    """Where; "" is a folder in ``$SLURM_TMPDIR``, else in ``$TMPDIR``. Runs that say the same folder share it."""

    def __post_init__(self) -> None:
        plain = bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name))
        require(plain, "name", "letters, digits, '_', '-' and '.' (it becomes part of folder names)", self.name)
        check_option("captions", self.captions, CAPTIONS)
        require(self.num_samples is None or self.num_samples >= 1, "num_samples", "at least 1", self.num_samples)
        require(self.decode_size is None or self.decode_size >= 1, "decode_size", "at least 1", self.decode_size)
        require(self.cache_gb >= 0, "cache_gb", "at least 0", self.cache_gb)

    @property
    @abstractmethod
    def form(self) -> Format:
        """How training samples are read from the files."""

    @property
    @abstractmethod
    def held_out_form(self) -> Format:
        """How held-out ones are."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where training data is looked for, for people."""

    @abstractmethod
    def found(self) -> tuple[list[str], list[str]]:
        """Files of training data, and those of validation and test splits that lie among them."""

    @abstractmethod
    def found_held_out(self) -> list[str]:
        """Files of held-out pairs; none where nobody said which."""

    @property
    def label(self) -> str:
        told = [] if self.captions == "first" else [f"{self.captions}_captions"]
        return "-".join([draft_label(self.name, self.decode_size), *told])

    @property
    def what(self) -> str:
        return self.options[0]

    def expected_samples(self) -> int | None:
        return self.num_samples

    def training_pool(self) -> ShardPool:
        folder = Path(self.cache_folder).absolute() if self.cache_folder else default_folder()
        cache = ShardCache(folder, int(self.cache_gb * 1e9)) if self.cache_gb else None
        try:
            pool = self._training_pool(cache)
        except PoolError as error:
            self._tell(error)
        if self.num_samples is not None and pool.num_samples != self.num_samples:
            share = pool.num_samples / self.num_samples
            logger.warning(
                "%s holds %d samples, %.1f %% of the %d that num_samples says",
                *(self.name, pool.num_samples, 100 * share, self.num_samples),
            )
        return pool

    def _training_pool(self, cache: ShardCache | None) -> ShardPool:
        names, held_out = self.found()
        tell_held_out(held_out)
        if not names:
            raise PoolError(f"no {self.what} match {self.place}")
        return ShardPool.of(names, self.form, self.decode_size, cache)

    def check_pool(self) -> None:
        """Looks for each local file and opens none: an index of millions of pairs is made where there is time."""
        names, _ = self.found()
        absent = [name for name in names if not is_remote(name) and not Path(name).exists()]
        if absent or not names:
            self._tell(PoolError(f"{absent[0]} is not there" if absent else f"no {self.what} match {self.place}"))

    def pairs(self) -> PairSet:
        """All pairs of the held-out files; those whose image is damaged are left out."""
        names = self.found_held_out()
        if not names:
            return super().pairs()
        shared = set(names) & set(self.found()[0])
        if shared:
            raise PoolError(f"{self.name}: {min(shared)} is both in {' and in '.join(self.options)}")
        try:
            pool = ShardPool.of(names, self.held_out_form)
        except PoolError as error:
            self._tell(error)
        return held_out_pairs(f"{self.name}-heldout", pool, self.held_out_captions)

    @property
    def held_out_captions(self) -> str:
        """As ``WebDataset.heldout_captions``."""
        return "merge"

    def _tell(self, error: PoolError) -> NoReturn:
        raise PoolError(
            f"{self.name}: {error} (looked for {self.place}; docs/data.md says how to get the data, then check it"
            f" with: {self.how_to_inspect})"
        ) from error

    @property
    def how_to_inspect(self) -> str:
        told = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        kind = type(self).__module__.rpartition(".")[2]
        return f"python -m benchmark.pool inspect --pool '{kind}: {json.dumps(told)}'"


def held_out_pairs(name: str, pool: ShardPool, how: str) -> PairSet:
    """The pairs of a pool: ``one`` caption an image, a caption a line of its text (``lines``), or images of the
    same bytes as one with all their captions (``merge``)."""
    ids: list[int] = []
    captions: list[str] = []
    owner: list[int] = []  # the place in ids of each caption's image
    place_of: dict[bytes, int] = {}
    of_several_lines = 0
    for sample_id in range(pool.num_samples):
        try:
            sample = pool.read(sample_id)
        except SampleError as error:
            logger.warning("left out of the held-out pairs: %s", error)
            continue
        place = len(ids)
        if how == "merge":
            place = place_of.setdefault(hashlib.sha256(pool.read_bytes(sample_id)[0]).digest(), place)
        if place == len(ids):
            ids.append(sample_id)
        of_several_lines += len(lines(sample.caption)) > 1
        several = _captions(sample, how)
        captions += several
        owner += [place] * len(several)
    if how == "one" and 2 * of_several_lines >= max(1, len(ids)):
        logger.warning(
            "%s: %d of %d held-out texts have several lines and are read as one caption each; if a line is a"
            " caption, say heldout_captions: lines",
            *(name, of_several_lines, len(ids)),
        )
    images = LazyImages(ids, lambda i: pool.read(i).image, pool.fingerprint)
    return PairSet(name, images, captions, np.array(owner, dtype=np.int64))


def _captions(sample: Sample, how: str) -> Sequence[str]:
    return lines(sample.caption) if how == "lines" else [sample.caption, *sample.further]
