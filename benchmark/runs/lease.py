"""One writer a folder: an advisory lock that the system drops when its holder ends, however it ends.

Where there are no locks, or nodes do not see one another's, the holder's name in the file stands in for it: on its
own machine as long as its process lives, elsewhere by its heartbeat, the file's time of change; neither a young
heartbeat nor a job that SLURM still runs is passed over. An exclusive file lets one at a time write its name.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from benchmark.files import try_lock
from benchmark.slurm import jobs, this_job

BEAT_SECONDS = 30.0
STALE_SECONDS = 300.0
"""Older heartbeats say nothing. SLURM itself needs clocks that agree to five minutes (munge)."""
OWN_JOB_SECONDS = 300.0
"""How long a job's next attempt waits for the locks of the last: file servers drop those of a dead node late."""
CLAIM_SECONDS = 10.0
"""Older claims are those of processes that died within the moment that it takes to write a name."""
LOST = 70
"""Exit code of a process whose lease another one has taken."""
_open: set[IO[str]] = set()
"""Lease files of this process."""
logger = logging.getLogger(__name__)


def _let_go() -> None:
    """A forked child, such as a loader's worker, would keep its parent's lock when the parent is killed."""
    for file in _open:
        file.close()
    _open.clear()


os.register_at_fork(after_in_child=_let_go)


class HeldError(RuntimeError):
    """Another process holds the lease; the message says which."""


@contextmanager
def lease(path: Path, wait_seconds: float = 0.5) -> Iterator[None]:
    """Hold the lease file ``path``. Raises HeldError if another process still holds it after ``wait_seconds``, and
    if the file cannot be opened.

    Someone who looks (``is_held``) holds it for an instant: that alone must not turn a run away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
        "job": this_job.job_id(),
    }
    text = json.dumps({**holder, "restart": this_job.restart_count(), "beats": True})
    with _opened(path) as file:
        _take(file, path, text, wait_seconds)
        _open.add(file)
        done = threading.Event()
        threading.Thread(target=_beat, args=(path, text, done), daemon=True).start()
        try:
            yield  # the file stays: removing it would let two processes lock two files of one name
        finally:
            done.set()
            if file in _open:  # not so in a forked child
                _open.remove(file)
                if _text(path) == text:
                    file.truncate(0)


def is_held(path: Path) -> bool:
    """Whether some process holds the lease at present, as far as its lock, process or young heartbeat tells."""
    return is_locked(path) or _lives_here(path) or _lives_elsewhere(path)


def is_locked(path: Path) -> bool:
    """Whether the system knows of a process that holds the lease."""
    if not path.exists():
        return False
    with path.open(encoding="utf-8") as file:  # for reading: others' results can be looked at too
        return try_lock(file.fileno(), fcntl.LOCK_SH) is False


def holder_of(path: Path) -> dict[str, Any] | None:
    """Host, pid and SLURM job of the process that holds the lease at present; None if none does."""
    return _holder(path) if is_held(path) else None


def _opened(path: Path) -> IO[str]:
    try:
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        told = f"{path}, which says who works there, cannot be opened ({error.strerror})"
        raise HeldError(f"{told}: its owner can let a group write it, whose umask is 002") from error


def _take(file: IO[str], path: Path, text: str, wait_seconds: float) -> None:
    """Lock the file and write ``text`` into it, our name. Raises HeldError if another process keeps it."""
    holder = _holder(path)
    if holder is not None and _is_own(holder):
        wait_seconds = max(wait_seconds, OWN_JOB_SECONDS)
    give_up = time.monotonic() + wait_seconds
    while True:
        seen, pause = _text(path), min(0.1, wait_seconds / 5)
        if try_lock(file.fileno()) is False:
            reason = f"{path.parent} is being worked on by {seen or 'another process'}"
        elif _lives_here(path) or _lives_elsewhere(path) or _has_job_elsewhere(path):
            reason, pause = (
                (
                    f"{path.parent} is being worked on by {_text(path)}, though its lock is not seen here; if that"
                    f" process is gone for certain, remove {path}"
                ),
                1.0,
            )
        elif _has_written(file, path, text, seen):
            return
        else:
            reason = f"{path.parent} has just been taken by {_text(path) or 'another process'}"
        if time.monotonic() >= give_up:
            raise HeldError(reason)
        time.sleep(pause)


def _has_written(file: IO[str], path: Path, text: str, seen: str) -> bool:
    """Write our name in place of what was ``seen`` there; False if another process is at it, or was faster."""
    claim = path.with_name(f"{path.name}.claim")
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        with suppress(FileNotFoundError):
            if _age(claim) > CLAIM_SECONDS:
                claim.unlink()
        return False
    try:
        if _text(path) != seen:
            return False
        file.truncate(0)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # before the claim goes: others, also on other nodes, are to find it
        return True
    finally:
        claim.unlink(missing_ok=True)


def _lives_here(path: Path) -> bool:
    """Whether the holder is a process of this machine that lives, whatever became of its lock."""
    holder = _holder(path)
    if holder is None or holder.get("host") != socket.gethostname() or not holder.get("born"):
        return False
    return bool(holder["born"] == _born(int(holder["pid"])))


def _born(pid: int) -> str:
    """When a process of this machine began, in ticks since a boot, which tells it from all of its number; "" if it
    has ended."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # proc(5), from the third on
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if facts[0] in "ZX" else f"{boot}:{facts[19]}"


def _lives_elsewhere(path: Path) -> bool:
    """Whether a process of another machine has lately touched the lease."""
    holder = _holder(path)
    return holder is not None and _is_foreign(holder) and abs(_age(path)) < STALE_SECONDS


def _age(path: Path) -> float:
    """Seconds since a file was touched, by the clock of the file system that it lies on."""
    try:
        with tempfile.TemporaryFile(dir=path.parent) as new:
            now = os.fstat(new.fileno()).st_mtime
    except OSError:  # a folder that others may only read
        now = time.time()
    return now - path.stat().st_mtime


def _has_job_elsewhere(path: Path) -> bool:
    """Whether the holder was a job of another machine that SLURM still runs, or cannot tell."""
    holder = _holder(path)
    return (
        holder is not None and _is_foreign(holder) and bool(holder.get("job")) and jobs.may_run(str(holder["job"]))
    )


def _is_foreign(holder: dict[str, Any]) -> bool:
    """A holder whose lock we might not see: on this machine a lock is always seen, and a job runs but once."""
    return bool(holder.get("beats")) and holder.get("host") != socket.gethostname() and not _is_own(holder)


def _is_own(holder: dict[str, Any]) -> bool:
    """Whether the holder is an earlier attempt of this very job."""
    return this_job.job_id() is not None and holder.get("job") == this_job.job_id() and _is_earlier(holder)


def _is_earlier(holder: dict[str, Any]) -> bool:
    return int(holder.get("restart", 0)) < this_job.restart_count()


def _beat(path: Path, text: str, done: threading.Event) -> None:
    """Touch the lease until ``done``; end this process if another one has taken it: two may not write."""
    while not done.wait(BEAT_SECONDS):
        try:
            found = _text(path)
            os.utime(path)
        except OSError as error:  # a file server that is away for a moment
            logger.warning("%s: no heartbeat: %s", path, error)
            continue
        if found and found != text and not done.is_set():
            logger.critical("%s was taken by %s: this process ends", path, found)
            os._exit(LOST)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def _holder(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(_text(path))
    except (OSError, ValueError):  # free, or just being written
        return None
    return content if isinstance(content, dict) else None
