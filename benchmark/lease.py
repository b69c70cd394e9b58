"""One writer a folder: an advisory lock that the system drops when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class HeldError(RuntimeError):
    """Another process holds the lease; the message says which."""


@contextmanager
def lease(path: Path, wait_seconds: float = 0.5) -> Iterator[None]:
    """Hold the lease file ``path``. Raises HeldError if another process still holds it after ``wait_seconds``.

    Someone who looks (``is_held``) holds it for an instant: that alone must not turn a run away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + wait_seconds
    with path.open("a+", encoding="utf-8") as file:
        while not _locked(file, fcntl.LOCK_EX):
            if time.monotonic() >= give_up:
                file.seek(0)
                raise HeldError(f"{path.parent} is being worked on by {file.read().strip() or 'another process'}")
            time.sleep(min(0.1, wait_seconds / 5))
        file.truncate(0)
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")}
        file.write(json.dumps(holder))
        file.flush()
        yield  # the file stays: removing it would let two processes lock two files of one name


def is_held(path: Path) -> bool:
    """Whether some process holds the lease at present."""
    if not path.exists():
        return False
    with path.open(encoding="utf-8") as file:  # for reading: others' results can be looked at too
        return not _locked(file, fcntl.LOCK_SH)


def holder_of(path: Path) -> dict[str, Any] | None:
    """Host, pid and SLURM job of the process that holds the lease at present; None if none does."""
    if not is_held(path):
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it is just being written
        return None
    return content if isinstance(content, dict) else None


def _locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
