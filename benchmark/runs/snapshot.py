"""The code a job runs: a copy of this project's packages, taken at submission and named by its content.

``<sweep>/code/<hash>/`` holds the files, ``snapshot.json`` (where they came from) and ``__main__.py``, so that
``python <folder>`` runs a job from there whatever the working folder is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmark import plugins
from benchmark.files import TEMPORARY_PREFIX, write_text

ROOT = Path(__file__).resolve().parents[2]
"""What this process imports the packages from."""
PACKAGES = ("benchmark", "baselines", "analysis")
FACTS_FILE, MAIN_FILE = "snapshot.json", "__main__.py"
MAIN = f"""\
import os
import sys

os.environ.pop("{plugins.METHODS}", None)  # what lies there was copied into baselines/ here

from benchmark import signals

signals.hear_early()  # before all else: what follows takes seconds to load

from benchmark.job.array_task import main

sys.exit(main(sys.argv[1:]))
"""
DIGITS = 12
CODE = (".py", ".yaml", ".html", ".js")
"""What is taken of files that nobody has committed: notes and keys that lie beside them stay where they are."""
LEFT_BY_PYTHON = ("__pycache__", ".mypy_cache", ".ruff_cache")


logger = logging.getLogger(__name__)


class SnapshotError(RuntimeError):
    """The code at hand is not the code that was submitted; the message names both."""


@dataclass(frozen=True)
class Snapshot:
    """A copy on disk."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name


def take(folder: Path, root: Path = ROOT) -> Snapshot:
    """Copy the packages at ``root`` as they are now into ``folder``; a state that is there already is used again.

    In a git checkout that is every file that git knows, and code that nobody has committed yet; elsewhere all code
    (``CODE``). Methods that lie elsewhere come along. Raises SnapshotError for a link out of ``root``, and if the
    copy that is there was changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copy = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=folder))
    try:
        for name, source in ({name: root / name for name in _files(root)} | elsewhere(root)).items():
            if source == root / name and not source.resolve().is_relative_to(root.resolve()):
                raise SnapshotError(f"{source} is a link to a file elsewhere, which no job gets: copy it here")
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy / name)
            (copy / name).chmod(0o444)
        write_text(copy / MAIN_FILE, MAIN)
        write_text(copy / FACTS_FILE, json.dumps(_origin(root), indent=1) + "\n")
        copy.chmod(0o755)
        taken = Snapshot(folder / hash_of(copy))
        if not taken.folder.exists():
            copy.rename(taken.folder)
    finally:
        if copy.exists():
            shutil.rmtree(copy)
    check(taken.name, taken.folder)
    return taken


def elsewhere(root: Path = ROOT) -> dict[str, Path]:
    """Methods that lie elsewhere, by their place in a snapshot; none beside a snapshot, which holds them."""
    return {} if (root / FACTS_FILE).exists() else plugins.files_outside("baselines")


def check(expected: str, root: Path = ROOT) -> None:
    """Raise SnapshotError unless ``root`` holds the snapshot of this name, unchanged."""
    found = hash_of(root) if (root / FACTS_FILE).exists() else "no snapshot"
    if found != expected:
        raise SnapshotError(
            f"submitted with the code of snapshot {expected}, but {root} holds {found}: put back what was"
            " changed there, or remove that folder and submit again"
        )


def facts() -> dict[str, Any]:
    """``git_sha``, ``dirty`` and, if this process runs from a snapshot, its name as ``snapshot``."""
    origin = _origin(ROOT)
    return {**origin, "snapshot": ROOT.name} if (ROOT / FACTS_FILE).exists() else origin


def hash_of(root: Path) -> str:
    """Of a snapshot's files: their names and contents."""
    digest = hashlib.sha256()
    for name in sorted(_walk(root, Path())):
        content = hashlib.sha256((root / name).read_bytes()).hexdigest()
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()[:DIGITS]


def _files(root: Path) -> list[str]:
    """What to copy, relative to ``root``."""
    if (root / FACTS_FILE).exists():
        return [name for name in _walk(root, Path()) if name not in (FACTS_FILE, MAIN_FILE)]
    listed = None
    if _git(root, "rev-parse", "--show-prefix") == "":  # the checkout's own top, not a folder that lies in one
        listed = _git(root, "ls-files", "-z", "--cached", "--", *PACKAGES)
        new = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *PACKAGES)
    if listed is None:
        return [name for package in PACKAGES for name in _walk(root, Path(package)) if _is_code(name)]
    names = [*listed.split("\0"), *filter(_is_code, (new or "").split("\0"))]
    return [name for name in names if name and (root / name).is_file()]


def _is_code(name: str) -> bool:
    return name.endswith(CODE) and not any(part.startswith(".") for part in Path(name).parts)


def _walk(root: Path, below: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root / below):
        folders[:] = [name for name in folders if name not in LEFT_BY_PYTHON]
        for name in files:
            if not name.endswith(".pyc"):
                yield str((Path(folder) / name).relative_to(root))


def _origin(root: Path) -> dict[str, Any]:
    """The commit that ``root`` stands at, and whether code differs from it; nulls outside a checkout."""
    if (root / FACTS_FILE).exists():
        content = json.loads((root / FACTS_FILE).read_text(encoding="utf-8"))
        assert isinstance(content, dict)
        return content
    if _git(root, "rev-parse", "--show-prefix") != "":
        return {"git_sha": None, "dirty": None}
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    new = _git(root, "ls-files", "--others", "--exclude-standard", "--", *PACKAGES)
    dirty = None if changes is None else bool(changes or new or plugins.folders("baselines"))
    return {"git_sha": _git(root, "rev-parse", "HEAD"), "dirty": dirty}


def _git(root: Path, *arguments: str) -> str | None:
    """What git says; None if it has nothing to say here, which is told where it does not trust the checkout."""
    command: Sequence[str] = ("git", *arguments)
    try:
        english = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, env=english)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if "dubious ownership" in done.stderr:
        _tell(
            f"{root} belongs to another user, so git does not read it: all its code is copied, and records name no"
            f" commit. To change that: git config --global --add safe.directory {root}"
        )
    return done.stdout.strip() if done.returncode == 0 else None


@lru_cache
def _tell(words: str) -> None:
    """A warning, once."""
    logger.warning(words)
