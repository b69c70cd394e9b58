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
    """Whether this attempt, or the last one, has left an error."""
    error_time = _time(folder.error)
    return error_time > 0 and error_time >= _time(folder.started)


def write_error(folder: RunFolder, error: BaseException, where: str = "") -> None:
    """Leave the error with its traceback in the run's folder; ``where`` opens the message."""
    content = {
        "type": type(error).__name__,
        "message": f"{where}{error}",
        "traceback": "".join(traceback.format_exception(error)),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
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


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
