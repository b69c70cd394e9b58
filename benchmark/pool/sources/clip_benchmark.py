"""Data sets in the shards that ``clip_benchmark_export_wds`` writes: VTAB+, DataComp's sets.

Beside ``SPLIT/nshards.txt`` and ``SPLIT/0.tar``, ... lie ``classnames.txt``,
``zeroshot_classification_templates.txt`` and, where an image has no single class, ``dataset_type.txt``:
``retrieval`` or ``multilabel``.
Letters in shapes: n images, C classes.
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmark.config import suites
from benchmark.options import NOT_IDENTITY, require
from benchmark.pool.samples import Pool, PoolError
from benchmark.pool.source import SPLITS, LabelledSet, PairSet, Source, data_folder
from benchmark.pool.sources import _published as published
from benchmark.pool.storage.byteranges import ABSENT, stamp
from benchmark.pool.storage.labelled_shards import LabelledShards, read_text
from benchmark.pool.storage.names import is_remote

logger = logging.getLogger(__name__)

ROOT = "SCAN_BENCH_CLIP_BENCHMARK"
"""Environment variable: the root of sets that name none."""
COUNT, NAMES, TEMPLATES, TYPE = (
    "nshards.txt",
    "classnames.txt",
    "zeroshot_classification_templates.txt",
    "dataset_type.txt",
)
MOST_SHARDS = 100_000
PLACES = ("{dataset}", "{dataset_cleaned}")
"""In a root: the set's name, and that with ``-`` for ``/``, as in clip_benchmark's ``--dataset_root``."""


@dataclass(frozen=True, kw_only=True)
class ClipBenchmark(Source):
    """A data set in clip_benchmark's shards, on disk or at an address: VTAB+, DataComp's sets, your exports."""

    name: str
    """As clip_benchmark has it, such as ``vtab/pets``."""
    root: str = field(default="", metadata=NOT_IDENTITY)
    """A folder or address that holds the set, itself or in ``NAME``, ``wds_NAME`` or ``wds_NAME_SPLIT`` (``-`` for
    ``/``), or one with ``{dataset}`` or ``{dataset_cleaned}``. "" is ``$SCAN_BENCH_CLIP_BENCHMARK``, else
    ``$SCAN_BENCH_DATA/clip_benchmark``."""

    def __post_init__(self) -> None:
        plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*", self.name)
        require(bool(plain), "name", "a name such as vtab/pets", self.name)

    @property
    def label(self) -> str:
        return suites.label_of(self.name)

    def expected_samples(self) -> int | None:
        return None

    def training_pool(self) -> Pool:
        raise PoolError(f"{self.label} is for evaluation: train on pairs, with the source webdataset")

    def labelled(self, split: str) -> LabelledSet:
        """Raises PoolError that names the file or member, for a set of captions too."""
        if split not in SPLITS:
            raise PoolError(f"{self.label} has no split '{split}' (known: {', '.join(SPLITS)})")
        home = self._home(split)
        kind = _kind(home)
        if kind == "retrieval":
            raise PoolError(f"{self.label}: {home}/{TYPE} says that it holds captions: the task is retrieval")
        names = _lines(f"{home}/{NAMES}", "the name of each class, in the order of their indices")
        templates = _lines(f"{home}/{TEMPLATES}", "prompts with {c} for the name of the class")
        for i, line in enumerate(templates):
            if "{c}" not in line:
                raise PoolError(f"{home}/{TEMPLATES}: line {i + 1} has no {{c}}, where the name of the class goes")
        shards = self._shards(home, split)
        labels = _many_labels(shards, names) if kind == "multilabel" else _labels(shards, names, f"{home}/{NAMES}")
        facts = suites.facts_of(self.name)
        metrics = () if facts is None or facts.metric in suites.USUAL else (facts.metric,)
        groups = {} if facts is None else _groups(shards, facts.groups)
        return LabelledSet(
            *(self.label, split, shards.images(), labels, names, published.from_texts(templates)),
            metrics=metrics,
            groups=groups,
        )

    def pairs(self) -> PairSet:
        """The test split's images with a caption a line. Raises PoolError that names the file or member."""
        home = self._home("test")
        if _kind(home) != "retrieval":
            raise PoolError(f"{self.label}: {home}/{TYPE} does not say 'retrieval': it holds classes")
        shards = self._shards(home, "test")
        captions: list[str] = []
        owner: list[int] = []
        for i, content in enumerate(shards.beside("txt")):
            several = [line.strip() for line in _utf8(content, shards, i).splitlines() if line.strip()]
            if not several:
                raise PoolError(f"{shards.place(i, 'txt')} holds no caption")
            captions += several
            owner += [i] * len(several)
        return PairSet(self.label, shards.images(), captions, np.array(owner, dtype=np.int64))

    def _home(self, split: str) -> str:
        """The folder or address of the set. Raises PoolError if it has no such split."""
        looked = self._homes(split)
        for home in looked:
            if stamp(f"{home}/{split}/{COUNT}") != ABSENT:
                return home
        raise PoolError(
            f"{self.label}: no {split}/{COUNT} in {' nor in '.join(looked)} (set root, {ROOT} or SCAN_BENCH_DATA;"
            " docs/data.md says how to get the sets)"
        )

    def _homes(self, split: str) -> Sequence[str]:
        """Where the set may lie, best first."""
        root = self.root or os.environ.get(ROOT) or str(data_folder("", suites.SOURCE))
        if root.startswith("https://huggingface.co/"):
            root = root.replace("/tree/", "/resolve/")  # pages of a folder; files lie at the other
        if not is_remote(root):
            root = str(Path(root).expanduser().absolute())
        clean = self.name.replace("/", "-")
        if any(place in root for place in PLACES):
            return [root.replace("{dataset}", self.name).replace("{dataset_cleaned}", clean).rstrip("/")]
        root = root.rstrip("/")
        own = [f"{root}/{below}" for below in (f"wds_{clean}_{split}", f"wds_{clean}", self.name)]
        return [*own, root] if self.root else own

    def _shards(self, home: str, split: str) -> LabelledShards:
        path = f"{home}/{split}/{COUNT}"
        text = (read_text(path) or "").strip()
        if not re.fullmatch(r"\d{1,6}", text) or not 1 <= int(text) <= MOST_SHARDS:
            raise PoolError(f"{path}: expected the number of shards, got '{text[:40]}'")
        names = [f"{home}/{split}/{i}.tar" for i in range(int(text))]
        if stamp(f"{home}/{split}/{text}.tar") != ABSENT:
            raise PoolError(f"{path} says {text} shards, but there is a {text}.tar too: get the set again")
        shards = LabelledShards.open(names)
        facts = suites.facts_of(self.name)
        if split == "test" and facts is not None and facts.images not in (None, len(shards)):
            logger.warning("%s holds %d images; published are %d", self.label, len(shards), facts.images)
        return shards


def _kind(home: str) -> str:
    """``classification``, ``multilabel`` or ``retrieval``."""
    text = read_text(f"{home}/{TYPE}")
    kind = "classification" if text is None else text.strip().lower()
    if kind not in ("classification", "multilabel", "retrieval"):
        raise PoolError(f"{home}/{TYPE}: '{kind[:40]}' is none of classification, multilabel and retrieval")
    return kind


def _lines(path: str, what: str) -> list[str]:
    text = read_text(path)
    if text is None:
        raise PoolError(f"{path} is not there: it holds {what}, a line each")
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not lines or not all(lines):
        empty = lines.index("") + 1 if lines else 1
        raise PoolError(f"{path}: line {empty} is empty; it holds {what}, a line each")
    return lines


def _labels(shards: LabelledShards, names: Sequence[str], names_file: str) -> np.ndarray:
    """int64 [n]."""
    found = []
    for i, content in enumerate(shards.beside("cls")):
        if not re.fullmatch(rb"\d{1,9}", content.strip()):
            told = content[:40].decode("ascii", "backslashreplace")
            raise PoolError(f"{shards.place(i, 'cls')}: '{told}' is no class index (a whole number from 0)")
        found.append(int(content))
        if found[-1] >= len(names):
            where = shards.place(i, "cls")
            raise PoolError(f"{where}: class {found[-1]}, but {names_file} has {len(names)} lines")
    return np.array(found, dtype=np.int64)


def _many_labels(shards: LabelledShards, names: Sequence[str]) -> np.ndarray:
    """int64 [n, C] of 0 and 1."""
    rows = [_vector(shards, i, content) for i, content in enumerate(shards.beside("npy"))]
    for i, row in enumerate(rows):
        if len(row) != len(names) or not np.isin(row, (0, 1)).all():
            raise PoolError(f"{shards.place(i, 'npy')}: expected {len(names)} numbers, each 0 or 1")
    return np.stack(rows).astype(np.int64)


def _groups(shards: LabelledShards, places: dict[str, int]) -> dict[str, np.ndarray]:
    """Kind of group -> int64 [n]."""
    if not places:
        return {}
    rows = [_vector(shards, i, content) for i, content in enumerate(shards.beside("npy"))]
    for i, row in enumerate(rows):
        own = row[list(places.values())] if len(row) > max(places.values()) else np.array([-1])
        if not ((own >= 0) & (own < 1 << 31)).all():
            raise PoolError(f"{shards.place(i, 'npy')}: no group from 0 at each of the places {places}")
    return {kind: np.array([int(row[place]) for row in rows], dtype=np.int64) for kind, place in places.items()}


def _vector(shards: LabelledShards, index: int, content: bytes) -> np.ndarray:
    try:
        found = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError) as error:
        raise PoolError(f"{shards.place(index, 'npy')} is no array of numbers: {error}") from error
    if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype.kind not in "biuf":
        raise PoolError(f"{shards.place(index, 'npy')} is no vector of numbers")
    return found


def _utf8(content: bytes, shards: LabelledShards, index: int) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PoolError(f"{shards.place(index, 'txt')} is not UTF-8: {error}") from error
