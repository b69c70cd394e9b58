"""Names of shards: patterns as webdataset takes them become a list of files and addresses.

``a/{00000..00331}.tar`` (braces), ``a/*.tar`` and ``a/**/*.tar`` (globs), ``one::two`` (several), a folder (all
tar files below it; of a data set's folder in the hub's cache those of its newest snapshot). Braces are kept in the
order given, globs and folders are sorted.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec  # type: ignore[import-untyped]

from benchmark.pool.samples import PoolError

_BRACES = re.compile(r"\{([^{}]*)\}")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))(?=/|$)")
HELD_OUT = frozenset(["validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation"])
"""Words that tell a split that is not trained on, as the hub reads names of files and folders."""
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?")


def is_remote(name: str) -> bool:
    return "://" in name


def file_system(name: str) -> tuple[Any, str]:
    """The fsspec file system that holds a remote shard, and the shard's path in it."""
    files, path = fsspec.core.url_to_fs(name)
    return files, str(path)


def expand(patterns: str | Iterable[str], suffix: str = ".tar") -> list[str]:
    """All shards of the patterns; local ones as absolute paths. A name without wildcard need not exist.

    Raises PoolError for a shard that is listed twice: its samples would be in the pool twice.
    """
    kept, held_out = expand_to_train(patterns, suffix, sweep_in=True)
    assert not held_out
    return kept


def expand_to_train(
    patterns: str | Iterable[str], suffix: str = ".tar", *, sweep_in: bool = False
) -> tuple[list[str], list[str]]:
    """As ``expand``, and apart from them the shards of validation and test splits that only a wildcard or a folder
    brought in; with ``sweep_in`` there are none of these."""
    texts = [patterns] if isinstance(patterns, str) else list(patterns)
    found: list[str] = []
    held_out: list[str] = []
    for text in texts:
        for part in text.split("::"):
            for pattern in braces(_with_folder(part.strip())):
                known, base = _remote(pattern) if is_remote(pattern) else _local(pattern, suffix)
                for name in known:
                    is_swept = base is not None and not sweep_in
                    (held_out if is_swept and _brings_held_out(base or "", name) else found).append(name)
    seen: set[str] = set()
    for name in found:
        if name in seen:
            raise PoolError(f"the shard {name} is listed twice in {'::'.join(texts)}")
        seen.add(name)
    return found, [name for name in held_out if name not in seen]


def is_of_held_out(name: str, but: str = "") -> bool:
    """Whether a word in a name says that it is of a validation or test split, other than one in ``but``."""
    return bool(_words(name) & HELD_OUT - _words(but))


def _brings_held_out(pattern: str, name: str) -> bool:
    """Of what stands below the folders that the pattern spells, and not in its own words."""
    fixed = pattern[: pattern.rfind("/", 0, min(pattern.find(mark) % (len(pattern) + 1) for mark in "*?[")) + 1]
    below = name.removeprefix(fixed) if name.startswith(fixed) else name.rpartition("/")[2]
    return is_of_held_out(below, pattern.removeprefix(fixed))


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))


def braces(text: str) -> list[str]:
    """``{a,b}``, ``{000..331}`` (zeros are kept) and ``{0..9..3}`` written out, the last brace varying fastest."""
    parts = _BRACES.split(text)  # literal, inside of a brace, literal, ...
    if any(mark in literal for literal in parts[::2] for mark in "{}"):
        raise PoolError(f"'{text}': braces do not close, or stand in one another")
    choices = [_choices(part, text) if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(picked) for picked in itertools.product(*choices)]


def _with_folder(pattern: str) -> str:
    """``$NAME/...`` with the folder that the environment names. No other variable is filled in: its value would
    stand in logs and addresses. Raises PoolError if it names no folder."""
    found = _VARIABLE.match(pattern)
    if found is None:
        if "$" in pattern:
            raise PoolError(f"'{pattern}': a variable can stand at the front alone, for a folder: $NAME/...")
        return pattern
    value = os.environ.get(found[1] or found[2], "")
    if not os.path.isdir(value):
        raise PoolError(f"'{pattern}': the environment has no folder of the name {found[1] or found[2]}")
    return value + pattern[found.end() :]


def common_folder(names: Sequence[str]) -> str:
    """The deepest folder that holds all shards, "" if there is none."""
    folders = [name.split("/")[:-1] for name in names]
    shared = [parts[0] for parts in itertools.takewhile(lambda p: len(set(p)) == 1, zip(*folders, strict=False))]
    return "/".join(shared)


def sources(names: Sequence[str]) -> list[str]:
    """The data set each shard belongs to: its folder below the one that holds all, or that folder's own name."""
    base = common_folder(names)
    cut = len(base) + 1 if base else 0
    folders = [str(PurePosixPath(name[cut:]).parent) for name in names]
    return [PurePosixPath(base).name if folder == "." else folder for folder in folders]


def _choices(inside: str, text: str) -> list[str]:
    span = _RANGE.fullmatch(inside)
    if span:
        return _numbers(*span.groups())
    if "," in inside:
        return inside.split(",")
    raise PoolError(f"'{text}': braces hold a range {{000..331}} or a list {{a,b}}, not '{inside}'")


def _numbers(first: str, last: str, step: str | None) -> list[str]:
    low, high = int(first), int(last)
    by = abs(int(step or 1)) or 1
    padded = any(len(n.lstrip("-")) > 1 and n.lstrip("-").startswith("0") for n in (first, last))
    width = max(len(first), len(last)) if padded else 0
    numbers = range(low, high + 1, by) if low <= high else range(low, high - 1, -by)
    return [f"{n:0{width}d}" for n in numbers]


def _local(name: str, suffix: str) -> tuple[list[str], str | None]:
    """Files, and the pattern that a wildcard or a folder stands for; None for a name."""
    path = Path(os.path.abspath(os.path.expanduser(name)))
    if path.is_dir():
        path = _snapshot(path)
        return sorted(str(p) for p in path.rglob(f"*{suffix}")), f"{path}/*"
    if glob.has_magic(name) and not path.exists():
        return sorted(glob.glob(str(path), recursive=True)), str(path)
    return [str(path)], None


def _snapshot(folder: Path) -> Path:
    """Of a repository in the hub's cache (``datasets--NAME``) what ``main`` last was, else the folder."""
    main = folder / "refs" / "main"
    if not main.is_file() or not (folder / "snapshots").is_dir():
        return folder
    return folder / "snapshots" / main.read_text(encoding="utf-8").strip()


def _remote(name: str) -> tuple[list[str], str | None]:
    if "*" not in name:
        return [name], None
    files, path = file_system(name)
    return sorted(files.unstrip_protocol(found) for found in files.glob(path)), name
