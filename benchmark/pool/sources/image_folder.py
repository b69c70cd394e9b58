"""Any data set in one folder a class: ``train/<class>/*`` and ``test/<class>/*`` (or ``val``).

A class is called as its folder, unless a file says otherwise: ``classnames.txt``, a line a class in the order of
the sorted folders (as clip_benchmark writes it), or ``classnames.json``, folder -> name. Prompts are those of
``zeroshot_classification_templates.txt`` in the same folder, else those that ``templates`` names.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmark.options import LATER_OPTION, NOT_IDENTITY, check_option, require
from benchmark.pool.samples import PoolError
from benchmark.pool.source import SPLITS, LabelledSet, Source, data_folder, draft_label
from benchmark.pool.sources import _published as published
from benchmark.pool.storage.imagefolder import FolderPool

logger = logging.getLogger(__name__)

FOLDERS = {"train": ("train",), "test": ("test", "val")}
TEMPLATES = "zeroshot_classification_templates.txt"


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Source):
    """Any folder of images, one folder a class: a pool for MoCo, both splits with labels."""

    name: str
    """Label in run names and tables, and the folder's name under ``$SCAN_BENCH_DATA``."""
    root: str = field(default="", metadata=NOT_IDENTITY)
    """The folder that holds ``train`` and ``test`` or ``val``; "" is ``$SCAN_BENCH_DATA/<name>``."""
    num_samples: int | None = field(default=None, metadata=NOT_IDENTITY)
    """Training images that plans count on before the data is read."""
    decode_size: int | None = field(default=None, metadata=LATER_OPTION, compare=False)  # it is the same data
    """Training images that are JPEGs are decoded at 1/2, 1/4 or 1/8 if no side falls below so many pixels; None
    decodes them whole."""
    templates: str = published.IMAGENET
    """Prompts where no file has them, by clip_benchmark's name of a data set: ``food101``, ``cifar10``, ..."""

    def __post_init__(self) -> None:
        plain = bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name))
        require(plain, "name", "letters, digits, '_', '-' and '.' (it becomes part of folder names)", self.name)
        require(self.num_samples is None or self.num_samples >= 1, "num_samples", "at least 1", self.num_samples)
        require(self.decode_size is None or self.decode_size >= 1, "decode_size", "at least 1", self.decode_size)
        check_option("templates", self.templates, published.data_sets_with_templates())

    @property
    def label(self) -> str:
        return draft_label(self.name, self.decode_size)

    def expected_samples(self) -> int | None:
        return self.num_samples

    def training_pool(self) -> FolderPool:
        pool = self._open("train", self.decode_size)
        if self.num_samples not in (None, pool.num_samples):
            logger.warning("%s holds %d training images, not %d", pool.folder, pool.num_samples, self.num_samples)
        return pool

    def labelled(self, split: str) -> LabelledSet:
        """``test`` is the folder ``test``, else ``val``. Both splits must have the same classes."""
        if split not in SPLITS:
            raise PoolError(f"{self.label} has no split '{split}' (known: {', '.join(SPLITS)})")
        pool = self._open(split)
        train = self._root() / "train"
        if split == "test" and train.is_dir() and (other := self._open("train")).classes != pool.classes:
            odd = sorted(set(other.classes) ^ set(pool.classes))[0]
            raise PoolError(f"{self.name}: {train} and {pool.folder} differ in their class folders, as in '{odd}'")
        names = self._class_names(pool)
        return LabelledSet(
            self.name, split, pool.images(), pool.labels().astype(np.int64), names, self._templates()
        )

    def _root(self) -> Path:
        return data_folder(self.root, self.name)

    def _open(self, split: str, decode_size: int | None = None) -> FolderPool:
        places = [self._root() / name for name in FOLDERS[split]]
        folder = next((place for place in places if place.is_dir()), places[0])
        try:
            return FolderPool.open(folder, decode_size)
        except PoolError as error:
            raise PoolError(
                f"{self.name}: {error} (expected {' or '.join(map(str, places))} with one folder a class: set root"
                " or SCAN_BENCH_DATA)"
            ) from error

    def _class_names(self, pool: FolderPool) -> list[str]:
        text, table = self._root() / "classnames.txt", self._root() / "classnames.json"
        if text.exists() and table.exists():
            raise PoolError(f"{self.name}: {text} and {table} are both there: remove one")
        if text.exists():
            names = [line.strip() for line in text.read_text(encoding="utf-8").splitlines() if line.strip()]
            if len(names) != len(pool.classes):
                raise PoolError(f"{text} has {len(names)} names, {pool.folder} has {len(pool.classes)} classes")
            _check_pairing(text, names, pool.classes)
            return names
        if table.exists():
            return _from_table(table, pool.classes)
        return [name.replace("_", " ") for name in pool.classes]

    def _templates(self) -> published.Templates:
        path = self._root() / TEMPLATES
        if not path.exists():
            return published.templates(self.templates)
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not lines or not all("{c}" in line for line in lines):
            raise PoolError(f"{path}: every line must hold {{c}}, where the name of the class goes")
        return published.from_texts(lines)


def _check_pairing(path: Path, names: list[str], folders: list[str]) -> None:
    """Raise PoolError where lines and sorted folders visibly do not go together."""
    if all(folder.isdecimal() for folder in folders) and sorted(folders, key=int) != folders:
        first, second = next(pair for pair in pairwise(folders) if int(pair[0]) > int(pair[1]))
        raise PoolError(
            f"{path}: folders are sorted as text, '{first}' before '{second}', so no telling whose name a line is:"
            f" write {path.with_suffix('.json')}, folder -> name, instead"
        )
    known = published.known_names(folders)
    for name, folder in zip(names, folders, strict=True):
        others = [other for other in folders if published.plain_name(name) in known[other]]
        if others and folder not in others:
            raise PoolError(
                f"{path}: line {folders.index(folder) + 1}, '{name}', stands for the folder '{folder}', but is the"
                f" name of the folder '{others[0]}': put the lines in the order of the sorted folders, or write"
                f" {path.with_suffix('.json')}, folder -> name"
            )


def _from_table(path: Path, classes: list[str]) -> list[str]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        names = [table[folder] for folder in classes]
    except (ValueError, KeyError, TypeError) as error:
        raise PoolError(
            f"{path} must map every class folder to a name: {type(error).__name__}: {error}"
        ) from error
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise PoolError(f"{path}: a name is empty or no text")
    return names
