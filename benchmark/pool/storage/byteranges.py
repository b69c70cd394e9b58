"""Byte ranges of shards: ``pread`` on local files, one range request through fsspec elsewhere.

Open files are kept per process and shared by its threads. A read that fails is tried again, then is a
PoolError that names the shard.
"""

from __future__ import annotations

import logging
import math
import os
import resource
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from fsspec.asyn import sync  # type: ignore[import-untyped]

from benchmark.pool.samples import PoolError
from benchmark.pool.storage.names import file_system, is_remote

logger = logging.getLogger(__name__)

T = TypeVar("T")

BACKOFF_SECONDS = (1.0, 4.0, 16.0)
"""Waits before the second, third and fourth try."""

ANSWER_SECONDS = 60.0
"""How long one request to a server may take."""

RECHECK_SECONDS = 600.0
"""How long a process takes a remote shard to be as it was when it last asked."""
_asked: dict[str, float] = {}

STAMP_KEYS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated")


@dataclass(frozen=True)
class Stamp:
    """What tells one state of a shard from another."""

    size: int
    """Bytes; -1 if there is no such shard."""
    version: str
    """Modification time in ns of a local file; a remote one's ETag or time, "" if its server gives neither."""


ABSENT = Stamp(-1, "")


def stamp(name: str) -> Stamp:
    """The present state of a shard, ``ABSENT`` if there is none. Raises PoolError if that cannot be found out."""
    found = retried(name, lambda: _stamp(name))
    _asked[name] = time.monotonic()
    return found


def retried(name: str, read: Callable[[], T]) -> T:
    """What ``read`` gives; when it fails it is tried again after a wait, then PoolError names the file."""
    reason = ""
    for wait in (*BACKOFF_SECONDS, None):
        try:
            return read()
        except PoolError:
            raise
        except (ImportError, ValueError, PermissionError) as error:  # waiting will not help
            raise PoolError(f"{name} cannot be read: {error}") from error
        except Exception as error:  # each file system raises its own errors
            reason = f"{type(error).__name__}: {error}"
        if wait is not None:
            logger.warning("%s cannot be read (%s); trying again in %g s", name, reason, wait)
            time.sleep(wait)
    raise PoolError(f"{name} cannot be read: {reason}")


def _stamp(name: str) -> Stamp:
    try:
        if not is_remote(name):
            status = os.stat(name)
            return Stamp(status.st_size, str(status.st_mtime_ns))
        files, path = file_system(name)
        facts = _answered(files, "info", path)
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    version = next((str(facts[key]) for key in STAMP_KEYS if facts.get(key)), "")
    return Stamp(int(facts["size"] or 0), version)


def _answered(files: Any, method: str, *words: Any, **options: Any) -> Any:
    """Call a file system, and wait no longer than ``ANSWER_SECONDS`` where it can be left."""
    if not getattr(files, "async_impl", False):
        return getattr(files, method)(*words, **options)
    return sync(files.loop, getattr(files, f"_{method}"), *words, timeout=ANSWER_SECONDS, **options)


class _File:
    """An open local shard, closed when the last thread that reads it lets go."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        descriptor = getattr(self, "descriptor", None)
        if descriptor is not None:
            os.close(descriptor)


def _check(name: str, file: _File, expected: Stamp) -> None:
    status = os.fstat(file.descriptor)
    if Stamp(status.st_size, str(status.st_mtime_ns)) != expected:
        raise _changed(name)


def _changed(name: str) -> PoolError:
    return PoolError(f"shard {name} changed after the pool was opened: start again, to have it indexed anew")


class ByteRanges:
    """Reads ranges of shards; a copy in another process opens its own files."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, _File] = OrderedDict()
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._limit = max(8, min(512, soft // 4))

    def __reduce__(self) -> tuple[type[ByteRanges], tuple[()]]:
        return type(self), ()

    def read(self, name: str, start: int, length: int, expected: Stamp) -> bytes:
        """``length`` bytes from ``start``. Raises PoolError if the shard is not in the ``expected`` state."""
        return retried(name, lambda: self._once(name, start, length, expected))

    def _once(self, name: str, start: int, length: int, expected: Stamp) -> bytes:
        try:
            data = (
                self._remote(name, start, length, expected)
                if is_remote(name)
                else self._local(name, start, length, expected)
            )
        except OSError:
            self._files.pop(name, None)
            raise
        if len(data) != length:
            self._files.pop(name, None)
            hint = ": the server ignores range requests" if len(data) > length else ""
            raise OSError(f"got {len(data)} bytes in place of {length} at byte {start}{hint}")
        return data

    def _local(self, name: str, start: int, length: int, expected: Stamp) -> bytes:
        file = self._files.get(name)
        if file is None:
            file = self._open(name, expected)
        else:
            with suppress(KeyError):  # another thread may have dropped it
                self._files.move_to_end(name)
            _check(name, file, expected)  # it may have been written over in place
        data = os.pread(file.descriptor, length, start)
        while 0 < len(data) < length:  # a signal or a network file system may cut a read short
            more = os.pread(file.descriptor, length - len(data), start + len(data))
            if not more:
                break
            data += more
        return data

    def _open(self, name: str, expected: Stamp) -> _File:
        file = _File(name)
        _check(name, file, expected)
        self._files[name] = file
        while len(self._files) > self._limit:
            self._files.popitem(last=False)
        return file

    def _remote(self, name: str, start: int, length: int, expected: Stamp) -> bytes:
        if time.monotonic() - _asked.get(name, -math.inf) > RECHECK_SECONDS:  # each answer alone does not say
            if _stamp(name) != expected:
                raise _changed(name)
            _asked[name] = time.monotonic()
        files, path = file_system(name)
        return bytes(_answered(files, "cat_file", path, start=start, end=start + length))
