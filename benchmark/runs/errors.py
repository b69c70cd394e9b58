"""The error a run leaves in its folder."""

from __future__ import annotations

import json
import logging
import time
import traceback
from pathlib import Path

from benchmark.files import write_text
from benchmark.runs.folder import RunFolder

logger = logging.getLogger(__name__)


def has_new_error(folder: RunFolder) -> bool:
    """Whether this attempt, or the last one, has left an error. It names its attempt: clocks disagree."""
    try:
        content = json.loads(folder.error.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        content = None
    if isinstance(content, dict) and "attempt" in content:
        return bool(content["attempt"] == _attempt(folder))
    return _time(folder.error) >= _time(folder.started)  # of an older version, or damaged


def write_error(folder: RunFolder, error: BaseException, where: str = "") -> None:
    """Leave the error with its traceback in the run's folder; ``where`` opens the message."""
    content = {
        "type": type(error).__name__,
        "message": f"{where}{error}",
        "traceback": "".join(traceback.format_exception(error)),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "attempt": _attempt(folder),
    }
    try:
        write_text(folder.error, json.dumps(content, indent=1) + "\n")
    except OSError as second:  # a full disk, say: the first error is the one to show
        logger.error("%s cannot be written: %s", folder.error, second)


def error_message(folder: RunFolder) -> str:
    """First line of the error a run left, or a word that it cannot be read."""
    try:
        content = json.loads(folder.error.read_text(encoding="utf-8"))
        return f"{content['type']}: {str(content['message']).splitlines()[0]}"
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return "error.json cannot be read"


def _attempt(folder: RunFolder) -> str | None:
    """What ``started.json`` says of the last attempt, None before the first."""
    try:
        return folder.started.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
