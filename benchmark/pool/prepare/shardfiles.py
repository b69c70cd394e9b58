"""Tar shards as img2dataset writes them: ``key.png``, ``key.txt`` the caption, ``key.json`` all that is known."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from benchmark.files import write_atomic
from benchmark.pool.storage.tarwriter import Member, write_tar

SHARD_SAMPLES = 2000


@dataclass(frozen=True)
class Item:
    """One sample to be written."""

    key: str
    """Unique in the data set, without a dot or a slash."""
    image: bytes
    """PNG."""
    row: Mapping[str, Any]
    """``caption``, ``content`` (the hash that copies share) and whatever else is known."""


def write_shards(out: Path, part: str, items: Sequence[Item]) -> list[dict[str, Any]]:
    """Write ``out/<part>-00000.tar`` and so on; returns their names, sizes, hashes and counts."""
    written = []
    for number, start in enumerate(range(0, len(items), SHARD_SAMPLES)):
        chosen = items[start : start + SHARD_SAMPLES]
        data = _tar(chosen, part)
        name = f"{part}-{number:05d}.tar"

        def write(file: BinaryIO, data: bytes = data) -> None:
            file.write(data)

        write_atomic(out / name, write)
        sha256 = hashlib.sha256(data).hexdigest()
        written.append({"file": name, "samples": len(chosen), "bytes": len(data), "sha256": sha256})
    return written


def _tar(items: Sequence[Item], part: str) -> bytes:
    buffer = io.BytesIO()
    write_tar(buffer, (member for item in items for member in _members(item, part)))
    return buffer.getvalue()


def _members(item: Item, part: str) -> Iterator[Member]:
    about = {"key": item.key, "part": part, **item.row}
    yield Member(f"{item.key}.png", item.image)
    yield Member(f"{item.key}.txt", item.row["caption"].encode())
    yield Member(f"{item.key}.json", json.dumps(about, ensure_ascii=False).encode())
