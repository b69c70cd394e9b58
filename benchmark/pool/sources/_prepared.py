"""A data set that ``python -m benchmark.pool prepare`` made: a manifest, a table of its samples, and tar shards.

The samples are in parts (``train``, ``test``, ...), each a list of shards; the table has a row a sample, in the
order of parts and of ids. The manifest is written last: a data set without one was never finished.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.pool.samples import PoolError, digest_of
from benchmark.pool.source import data_folder
from benchmark.pool.storage.build import index_shards
from benchmark.pool.storage.imagefolder import LazyImages
from benchmark.pool.storage.index import ShardIndex
from benchmark.pool.storage.shards import ShardPool

MANIFEST = "manifest.json"
TABLE = "samples.jsonl"

Row = dict[str, Any]
"""What is known of a sample: ``key``, ``part``, ``caption``, ``content`` and what the data set adds."""


@dataclass(frozen=True)
class Prepared:
    """A finished data set."""

    name: str
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def licence(self) -> str:
        return str(self.manifest.get("licence", ""))

    def shards(self, *parts: str) -> list[str]:
        """Paths of the shards of the parts, in the order of ids."""
        files = [shard["file"] for part in parts for shard in self.manifest["parts"][part]["shards"]]
        return [str((self.folder / file).absolute()) for file in files]

    def num_samples(self, *parts: str) -> int:
        return sum(self.manifest["parts"][part]["samples"] for part in parts)

    def pool(self, *parts: str, class_of: Callable[[Row], str] | None = None) -> ShardPool:
        """The samples of the parts; ``class_of`` says what the report counts a sample under.

        Raises PoolError if the shards do not hold what the manifest says.
        """
        index = index_shards(self.shards(*parts))
        pool = ShardPool(index)
        if class_of is not None:
            pool = ClassedPool(index, lambda: map(class_of, self.rows(*parts)))
        if pool.num_samples != self.num_samples(*parts):
            raise PoolError(
                f"{self.folder} holds {pool.num_samples} samples of {' and '.join(parts)}, its manifest says"
                f" {self.num_samples(*parts)}: {how_to_get(self.name, self.folder)}"
            )
        return pool

    def rows(self, *parts: str) -> list[Row]:
        """Rows of the table in the order of ``pool(*parts)``."""
        by_part: dict[str, list[Row]] = {part: [] for part in self.manifest["parts"]}
        with (self.folder / TABLE).open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                by_part[row["part"]].append(row)
        return [row for part in parts for row in by_part[part]]

    def images(self, ids: Sequence[int], *parts: str) -> LazyImages:
        """Images of ``pool(*parts)``, decoded when taken out."""
        pool = self.pool(*parts)
        return LazyImages(ids, lambda sample_id: pool.read(sample_id).image, self._content(*parts))

    def _content(self, *parts: str) -> str:
        """A hash of the shards of the parts; "" for a manifest that does not have theirs."""
        shards = [shard for part in parts for shard in self.manifest["parts"][part]["shards"]]
        return digest_of([shard["sha256"] for shard in shards]) if all("sha256" in s for s in shards) else ""


class ClassedPool(ShardPool):
    """Shards whose samples have classes, told to the report alone; pickles as the shards."""

    def __init__(self, index: ShardIndex, labels: Callable[[], Iterable[str]]) -> None:
        """``labels`` gives the class of every sample in the order of ids, when it is asked."""
        super().__init__(index)
        self._labels = labels

    @property
    def sample_classes(self) -> tuple[Sequence[str], np.ndarray]:
        names, of = np.unique(list(self._labels()), return_inverse=True)
        assert len(of) == self.num_samples, (len(of), self.num_samples)
        return names.tolist(), of


def open_prepared(name: str, root: str, version: int) -> Prepared:
    """The data set in ``root`` or in its usual folder. Raises PoolError, saying how to get it, if it is absent."""
    folder = data_folder(root, name)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        found = (manifest["name"], manifest["version"])
    except FileNotFoundError:
        raise PoolError(f"{name} is not in {folder}: {how_to_get(name, folder)}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PoolError(f"{folder / MANIFEST} cannot be read ({error}): {how_to_get(name, folder)}") from error
    if found != (name, version):
        raise PoolError(
            f"{folder} holds {found[0]} version {found[1]}, not {name} version {version}:"
            f" {how_to_get(name, folder)}"
        )
    return Prepared(name, folder, manifest)


def check_count(prepared: Prepared, expected: int, *parts: str) -> None:
    """Raise PoolError unless the parts hold the pinned number of samples."""
    found = prepared.num_samples(*parts)
    if found != expected:
        raise PoolError(
            f"{prepared.folder} was prepared with {found} training samples, this version has {expected}:"
            f" {how_to_get(prepared.name, prepared.folder)}"
        )


def how_to_get(name: str, folder: Path) -> str:
    return f"run  python -m benchmark.pool prepare {name} --out {folder}"


def templates(*prompts: str) -> list[Callable[[str], str]]:
    return [partial(str.format, prompt) for prompt in prompts]
