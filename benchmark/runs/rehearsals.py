"""``rehearsal.json``: what the rehearsal of a sweep measured and projects, by the shape of its jobs.

It lies in a hidden folder beside the sweeps, which neither the report nor another sweep looks into.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.files import sealed, unsealed, write_text

FOLDER = ".rehearsal"
FILE = "rehearsal.json"
VERSION = 1


def folder_of(results: Path, sweep: str) -> Path:
    """Where a sweep is rehearsed."""
    return results / FOLDER / sweep


def write_rehearsal(folder: Path, content: Mapping[str, Any]) -> None:
    """Put it in the place of the one before, sealed."""
    text = json.dumps(sealed({"schema": VERSION, **content}), indent=1, sort_keys=True)
    write_text(folder / FILE, text + "\n")


def rehearsed_shapes(results: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Shapes and what is known of each, from all rehearsals; a file that cannot be read says nothing."""
    for path in sorted((results / FOLDER).glob(f"*/{FILE}")):
        try:
            content = unsealed(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        if content.get("schema") == VERSION:
            yield from content["shapes"].items()
