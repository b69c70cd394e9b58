"""Names of tar shards: patterns as webdataset takes them become a list of files and addresses.

``a/{00000..00331}.tar`` (braces), ``a/*.tar`` and ``a/**/*.tar`` (globs), ``one::two`` (several), a folder (all
tar files below it). Braces are kept in the order given, globs and folders are sorted.
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
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?")


def is_remote(name: str) -> bool:
    return "://" in name


def file_system(name: str) -> tuple[Any, str]:
    """The fsspec file system that holds a remote shard, and the shard's path in it."""
    files, path = fsspec.core.url_to_fs(name)
    return files, str(path)


def expand(patterns: str | Iterable[str]) -> list[str]:
    """All shards of the patterns; local ones as absolute paths. A name without wildcard need not exist.

    Raises PoolError for a shard that is listed twice: its samples would be in the pool twice.
    """
    texts = [patterns] if isinstance(patterns, str) else list(patterns)
    found: list[str] = []
    for text in texts:
        for part in text.split("::"):
            for name in braces(_with_folder(part.strip())):
                found += _remote(name) if is_remote(name) else _local(name)
    seen: set[str] = set()
    for name in found:
        if name in seen:
            raise PoolError(f"the shard {name} is listed twice in {'::'.join(texts)}")
        seen.add(name)
    return found


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


def _local(name: str) -> list[str]:
    path = Path(os.path.abspath(os.path.expanduser(name)))
    if path.is_dir():
        return sorted(str(p) for p in path.rglob("*.tar"))
    if glob.has_magic(name) and not path.exists():
        return sorted(glob.glob(str(path), recursive=True))
    return [str(path)]


def _remote(name: str) -> list[str]:
    if "*" not in name:
        return [name]
    files, path = file_system(name)
    return sorted(files.unstrip_protocol(found) for found in files.glob(path))
