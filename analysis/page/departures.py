"""The departures from a paper or its code that the source tells of: comments ``# DEVIATION(name): text``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("benchmark", "baselines")
_TAG = re.compile(r"#\s*DEVIATION\((?P<name>[^)]+)\):\s*(?P<text>.+)")
_COMMENT = re.compile(r"^\s*#\s*(?P<text>.+)")


@dataclass(frozen=True)
class Departure:
    """One tagged comment."""

    name: str
    text: str
    where: str
    """``baselines/scan.py:12``."""


def departures(root: Path, elsewhere: Mapping[str, Path] | None = None) -> list[Departure]:
    """All of them under ``root`` and in files ``elsewhere``, by name; read as text, ordered by name and place."""
    found = []
    paths = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    named = {path.relative_to(root).as_posix(): path for path in paths} | dict(elsewhere or {})
    for name, path in named.items():
        if path.suffix == ".py":
            found += _in_file(path, name)
    return sorted(found, key=lambda departure: departure.name)


def _in_file(path: Path, name: str) -> list[Departure]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()  # a broken file stops no report
    found = []
    for i, line in enumerate(lines):
        tag = _TAG.search(line)
        if tag is None:
            continue
        text = tag["text"].strip()
        if line.lstrip().startswith("#"):  # a comment of its own may go on in the next lines
            for follower in lines[i + 1 :]:
                more = _COMMENT.match(follower)
                if more is None or _TAG.search(follower):
                    break
                text += " " + more["text"].strip()
        found.append(Departure(tag["name"].strip(), text, f"{name}:{i + 1}"))
    return found
