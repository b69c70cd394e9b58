"""The Open Clip Art Library: drawings and icons whose captions are as noisy as the web's.

A caption is the title and the keywords their author gave: a name, an artist's credit, or one text for hundreds
of icons. Parts: ``train`` and ``test``; a picture and its copies are on one side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmark.options import NOT_IDENTITY
from benchmark.pool.samples import PoolError
from benchmark.pool.source import SPLITS, LabelledSet, PairSet, Source
from benchmark.pool.sources._prepared import Prepared, Row, check_count, open_prepared
from benchmark.pool.sources._prototypes import prototypes
from benchmark.pool.storage.shards import ShardPool

VERSION = 1
"""Goes up with anything that changes a sample or the split."""

EXPECTED = 7116
"""Training samples."""

CLASSES = (
    "animals",
    "buildings",
    "computer",
    "decorations",
    "education",
    "electronics",
    "food",
    "geography",
    "office",
    "people",
    "plants",
    "recreation",
    "shapes",
    "signs_and_symbols",
    "tools",
    "transportation",
)
"""Top folders, without ``unsorted`` and ``special`` and those of fewer than 25 different pictures."""


@dataclass(frozen=True, kw_only=True)
class Clipart(Source):
    """Clip art in the middle of a white square of at most 128 px."""

    root: str = field(default="", metadata=NOT_IDENTITY)
    """Folder that ``prepare`` filled; "" is the usual one."""

    @property
    def label(self) -> str:
        return "clipart"

    def expected_samples(self) -> int:
        return EXPECTED

    def training_pool(self) -> ShardPool:
        prepared = self._open()
        check_count(prepared, EXPECTED, "train")
        return prepared.pool("train", class_of=class_of)

    def licence(self) -> str:
        return self._open().licence

    def labelled(self, split: str) -> LabelledSet:
        """Pictures in one of ``CLASSES``, each once however many copies there are.

        A class is prompted by captions of its own in training, not by a text that a whole series shares.
        """
        if split not in SPLITS:
            raise PoolError(f"{self.label} has no split '{split}' (known: {', '.join(SPLITS)})")
        prepared = self._open()
        rows = prepared.rows(split)
        ids = _first_of_each([i for i, row in enumerate(rows) if row["folder"] in CLASSES], rows)
        images = prepared.images(ids, split)
        labels = np.array([CLASSES.index(rows[i]["folder"]) for i in ids], dtype=np.int64)
        train = prepared.rows("train")
        said = prototypes([(row["folder"], row["caption"]) for row in train if row["unique_caption"]])
        return LabelledSet("clipart", split, images, labels, list(CLASSES), said)

    def pairs(self) -> PairSet:
        """Held-out pictures with a caption that no other picture has, held out or not; each picture once."""
        prepared = self._open()
        rows = prepared.rows("test")
        ids = _first_of_each([i for i, row in enumerate(rows) if row["unique_caption"]], rows)
        captions = [rows[i]["caption"] for i in ids]
        return PairSet("clipart", prepared.images(ids, "test"), captions, np.arange(len(ids), dtype=np.int64))

    def _open(self) -> Prepared:
        return open_prepared("clipart", self.root, VERSION)


def class_of(row: Row) -> str:
    """What the report counts a sample under: the top folder, also where it is no class of an evaluation."""
    return str(row["folder"]).replace("_", " ")


def _first_of_each(ids: Sequence[int], rows: Sequence[Row]) -> list[int]:
    """The first of the ids that show one picture, for every picture."""
    first: dict[str, int] = {}
    for i in ids:
        first.setdefault(rows[i]["content"], i)
    return list(first.values())
