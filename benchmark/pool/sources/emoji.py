"""Emoji of two vendors with their names: small, clean pictures, alike across vendors and skin tones.

Three parts: ``train``, and of the held-out names ``seen`` (the first vendor's pictures) and ``test`` (the second
vendor's). ``split: names`` trains on ``train``: a held-out emoji is unknown in any vendor, skin tone or copy.
``split: images`` trains on ``train`` and ``seen``: its name is known, the picture of the second vendor is not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from benchmark.options import LATER_OPTION, NOT_IDENTITY, check_option
from benchmark.pool.samples import PoolError
from benchmark.pool.source import SPLITS, LabelledSet, PairSet, Source
from benchmark.pool.sources import _emoji_classes as classes
from benchmark.pool.sources._prepared import Prepared, Row, check_count, open_prepared
from benchmark.pool.storage.shards import ShardPool

VERSION = 1
"""Goes up with anything that changes a sample or the split."""

PARTS = ("train", "seen", "test")
TRAINING = {"names": ("train",), "images": ("train", "seen")}
HELD_OUT = {"names": ("seen", "test"), "images": ("test",)}
EXPECTED = {"names": 6076, "images": 6824}
"""Training samples of each split."""


@dataclass(frozen=True, kw_only=True)
class Emoji(Source):
    """Emoji of 64 px on white; the caption is the name in lower case, with the skin tone."""

    root: str = field(default="", metadata=NOT_IDENTITY)
    """Folder that ``prepare`` filled; "" is the usual one."""
    split: str = "names"
    """What is held out: a fifth of the ``names``, or of these names the second vendor's ``images`` alone."""
    classes: str = "category"
    """Of the labelled splits: ``category`` (9), ``subcategory`` or ``name``."""

    vendors: str = field(default="second", metadata=LATER_OPTION)
    """Whose held-out pictures are pairs: the ``second`` vendor's, or those of ``both`` (with ``split: names``)."""

    def __post_init__(self) -> None:
        check_option("split", self.split, tuple(TRAINING))
        check_option("classes", self.classes, classes.KINDS)
        check_option("vendors", self.vendors, ("second", "both"))
        if (self.split, self.vendors) == ("images", "both"):
            raise ValueError("vendors: both needs split: names; split: images trains on the first vendor")

    @property
    def label(self) -> str:
        return "emoji" if self.split == "names" else f"emoji-{self.split}"

    def expected_samples(self) -> int:
        return EXPECTED[self.split]

    def training_pool(self) -> ShardPool:
        prepared = self._open()
        check_count(prepared, EXPECTED[self.split], *TRAINING[self.split])
        return prepared.pool(*TRAINING[self.split], class_of=class_of)

    def licence(self) -> str:
        return self._open().licence

    def labelled(self, split: str) -> LabelledSet:
        """Emoji without skin tone, of the training or of the held-out side; all names are classes of ``name``."""
        if split not in SPLITS:
            raise PoolError(f"{self.label} has no split '{split}' (known: {', '.join(SPLITS)})")
        if (self.classes, self.split, split) == ("name", "names", "train"):
            raise PoolError("emoji: no held-out name has training images: use split: images, or zero-shot alone")
        prepared = self._open()
        rows = prepared.rows(*PARTS)
        names = classes.class_names(rows, self.classes)
        index = {name: i for i, name in enumerate(names)}
        parts = (TRAINING if split == "train" else HELD_OUT)[self.split]
        chosen = [
            (sample_id, index[label])
            for sample_id, row in enumerate(prepared.rows(*parts))
            if not row["tone"] and (label := classes.label_of(row, self.classes)) in index
        ]
        images = prepared.images([sample_id for sample_id, _ in chosen], *parts)
        labels = np.array([label for _, label in chosen], dtype=np.int64)
        name = f"{self.label}-{self.classes}"
        return LabelledSet(name, split, images, labels, names, classes.prompts(rows, self.classes))

    def pairs(self) -> PairSet:
        """Held-out emoji without skin tone: of the second vendor, the same for both splits, or of ``both``.

        An emoji whose name or picture another one shares is left out: no telling which belong together.
        """
        prepared = self._open()
        if self.vendors == "both":
            return _pairs_of_both(prepared)
        rows = prepared.rows("test")
        plain = [i for i, row in enumerate(rows) if not row["tone"]]
        captions = Counter(rows[i]["caption"] for i in plain)
        contents = Counter(rows[i]["content"] for i in plain)
        ids = [i for i in plain if captions[rows[i]["caption"]] == 1 and contents[rows[i]["content"]] == 1]
        order = np.arange(len(ids), dtype=np.int64)
        return PairSet(self.label, prepared.images(ids, "test"), [rows[i]["caption"] for i in ids], order)

    def _open(self) -> Prepared:
        return open_prepared("emoji", self.root, VERSION)


def _pairs_of_both(prepared: Prepared) -> PairSet:
    """Each name once, its pictures a group. What is ambiguous in one vendor is left out of both."""
    parts = HELD_OUT["names"]
    rows = prepared.rows(*parts)
    plain = [i for i, row in enumerate(rows) if not row["tone"]]
    said = Counter((rows[i]["vendor"], rows[i]["caption"]) for i in plain)
    drawn: dict[str, set[str]] = {}
    for i in plain:
        drawn.setdefault(rows[i]["content"], set()).add(rows[i]["caption"])
    unclear = {caption for (_, caption), count in said.items() if count > 1}
    unclear |= {caption for captions in drawn.values() if len(captions) > 1 for caption in captions}
    by_caption: dict[str, dict[str, int]] = {}  # a picture that both vendors have is one image
    for i in plain:
        if rows[i]["caption"] not in unclear:
            by_caption.setdefault(rows[i]["caption"], {}).setdefault(rows[i]["content"], i)
    counts = [len(pictures) for pictures in by_caption.values()]
    ids = [i for pictures in by_caption.values() for i in pictures.values()]
    group = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    first = np.cumsum([0, *counts[:-1]], dtype=np.int64)
    return PairSet("emoji-both", prepared.images(ids, *parts), list(by_caption), first, group)


def class_of(row: Row) -> str:
    """What the report counts a sample under."""
    return classes.label_of(row, "category")
