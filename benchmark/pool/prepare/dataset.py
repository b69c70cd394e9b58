"""Writing a prepared data set: shards, the table, licences, and last the manifest that makes it whole.

Every file appears under its name when it is complete. A second call finds all whole and does nothing; after a
kill it starts again, without fetching what was fetched.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL

from benchmark.files import remove_leftovers, write_atomic, write_text
from benchmark.pool.prepare.packages import Contents, Package, file_hash, read_packages
from benchmark.pool.prepare.shardfiles import Item, write_shards
from benchmark.pool.prepare.splits import place_of
from benchmark.pool.samples import PoolError
from benchmark.pool.sources._prepared import MANIFEST, TABLE

DOWNLOADS = ".fetched"
"""Packages on their way; gone when the data set is whole."""
LICENCES = "licences"


@dataclass(frozen=True)
class Made:
    """What a recipe makes of its packages."""

    parts: Mapping[str, Sequence[Item]] = field(default_factory=dict)
    """Samples by part; each part becomes tar shards, in an arbitrary fixed order."""
    arrays: Mapping[str, Callable[[Any], object]] = field(default_factory=dict)
    """Other files by name: a writer each. A file called ``<part>-images.npy`` is the part's only "shard"."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Samples by part of those files."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Entries left out, by reason."""


@dataclass(frozen=True)
class Recipe:
    """How one data set is made."""

    name: str
    version: int
    packages: tuple[Package, ...]
    licence: str
    """What the pictures may be used for, in a sentence or two."""
    make: Callable[[Sequence[Contents]], Made]
    unpack: Callable[[Path], Sequence[Contents] | None] = lambda folder: None
    """Contents of a folder in another layout than the packages', None if it is none."""


def prepare_data_set(recipe: Recipe, out: Path, given: Path | None) -> None:
    """Fill ``out``, unless it is whole. Raises FetchError, PoolError, OSError."""
    if is_whole(recipe, out):
        print(f"{out} holds {recipe.name} already, all of it as it should be: nothing to do")
        _tell(recipe, out)
        return
    found = _manifest(out).get("name", recipe.name)
    if found != recipe.name:
        raise PoolError(f"{out} holds {found}: give another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST).unlink(missing_ok=True)  # from here on the folder is not whole
    remove_leftovers(out)
    for old in out.glob("*-[0-9][0-9][0-9][0-9][0-9].tar"):
        old.unlink()  # another version may have had more shards
    downloads = out / DOWNLOADS
    contents = recipe.unpack(given) if given is not None else None
    if contents is None:
        contents = read_packages(recipe.packages, given, downloads)
    print(f"making {recipe.name}", flush=True)
    _write(recipe, recipe.make(contents), contents, out)
    shutil.rmtree(downloads, ignore_errors=True)
    _tell(recipe, out)


def is_whole(recipe: Recipe, out: Path) -> bool:
    """Whether ``out`` holds this version of the data set and every file has the hash of the manifest."""
    manifest = _manifest(out)
    try:
        if (manifest["name"], manifest["version"]) != (recipe.name, recipe.version):
            return False
        shards = [shard for part in manifest["parts"].values() for shard in part["shards"]]
        files = [(file["file"], file["sha256"]) for file in [*shards, *manifest["files"]]]
        return all(file_hash(out / name) == sha256 for name, sha256 in files)
    except (OSError, KeyError, TypeError):
        return False


def _manifest(out: Path) -> dict[str, Any]:
    """{} if there is none that can be read."""
    try:
        node = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return node if isinstance(node, dict) else {}


def _write(recipe: Recipe, made: Made, contents: Sequence[Contents], out: Path) -> None:
    parts: dict[str, Any] = {}
    rows = []
    for part, items in made.parts.items():
        ordered = sorted(items, key=lambda item: place_of(item.key, f"{recipe.name} order"))
        parts[part] = {"samples": len(items), "shards": write_shards(out, part, ordered)}
        rows += [{"key": item.key, "part": part, **item.row} for item in ordered]
    files = []
    for name, write in made.arrays.items():
        write_atomic(out / name, write)
        part, _, rest = name.partition("-")
        if rest == "images.npy":
            parts[part] = {"samples": made.counts[part], "shards": [_entry(out, name)]}
        else:
            files.append(_entry(out, name))
    if rows:
        write_text(out / TABLE, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        files.append(_entry(out, TABLE))
    files += _write_licences(recipe, contents, out)
    manifest = {
        "name": recipe.name,
        "version": recipe.version,
        "licence": recipe.licence,
        "packages": [
            {"client": c.package.client, "name": c.package.name, "version": c.package.version}
            | {"sha256": c.package.sha256, "content_sha256": c.package.content}
            for c in contents
        ],
        "pillow": PIL.__version__,
        "parts": parts,
        "skipped": dict(sorted(Counter(made.skipped).items())),
        "files": files,
    }
    write_text(out / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def _write_licences(recipe: Recipe, contents: Sequence[Contents], out: Path) -> list[dict[str, Any]]:
    """The packages' own statements beside the data, and ours of what they come to."""
    written = [f"{LICENCES}/{recipe.name}.txt"]
    write_text(out / written[0], recipe.licence + "\n")
    for one in contents:
        if one.notice is not None:
            notice = one.notice
            written.append(f"{LICENCES}/{one.package.name}.txt")
            write_atomic(out / written[-1], lambda file, notice=notice: file.write(notice))  # type: ignore[misc]
    return [_entry(out, name) for name in written]


def _entry(out: Path, name: str) -> dict[str, Any]:
    return {"file": name, "bytes": (out / name).stat().st_size, "sha256": file_hash(out / name)}


def _tell(recipe: Recipe, out: Path) -> None:
    manifest = _manifest(out)
    shards = [shard for part in manifest["parts"].values() for shard in part["shards"]]
    counts = ", ".join(f"{part} {about['samples']:,}" for part, about in manifest["parts"].items())
    megabytes = sum(shard["bytes"] for shard in shards) / 1e6
    print(f"{recipe.name}: {counts} samples in {len(shards)} files, {megabytes:.1f} MB, in {out}")
    for reason, count in manifest["skipped"].items():
        print(f"  left out, {reason}: {count}")
    print(f"licence: {recipe.licence}\n  the packages' own words: {out / LICENCES}")
