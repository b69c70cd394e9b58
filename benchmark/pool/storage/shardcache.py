"""Copies of whole shards on a local disk, for shards on an object store or a network file system.

A folder of copies serves all processes of a machine, those of other runs too. A thread beside the training makes
copies in the order in which an epoch needs them; readers take a copy that is whole, else the shard in its place.
Nobody waits for another: what is there, what is being made and what it takes are told by the folder alone.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmark.files import try_lock
from benchmark.pool.samples import PoolError

logger = logging.getLogger(__name__)

BLOCK = 16 << 10
"""Bytes that have a checksum of their own: about an image."""
CHUNK = 8 << 20
"""Bytes that are copied at a time."""
WAIT_SECONDS = 1.0
"""How often it is looked whether there is room now."""
COPY, PART = ".shard", ".part"


def default_folder() -> Path:
    """In ``$SLURM_TMPDIR``, else where temporary files are (``$TMPDIR``)."""
    place = os.environ.get("SLURM_TMPDIR") or tempfile.gettempdir()
    return Path(place) / f"scan-bench-shards-{os.getuid()}"


@dataclass(frozen=True)
class Want:
    """A shard that an epoch reads."""

    key: str
    """Names the content of the shard: another state of it has another key."""
    size: int
    first: int
    """The first place in the epoch's order that reads it; ``last`` is the last."""
    last: int
    read: Callable[[int, int], bytes]
    """(start, length) -> bytes of the shard. Raises PoolError."""


@dataclass(frozen=True)
class ShardCache:
    """At most ``limit_bytes`` of copies in ``folder``. A copy is a shard and after it the CRC-32 of its blocks."""

    folder: Path
    limit_bytes: int

    def read(self, key: str, size: int, start: int, length: int) -> bytes | None:
        """Bytes of a copied shard of ``size`` bytes, None if there is no copy; a damaged one is removed."""
        path = self.folder / f"{key}{COPY}"
        first, last = start // BLOCK, -(-(start + length) // BLOCK)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # open no longer than this: its place is freed
        except OSError:
            return None
        try:
            data = os.pread(descriptor, min(last * BLOCK, size) - first * BLOCK, first * BLOCK)
            sums = os.pread(descriptor, 4 * (last - first), size + 4 * first)
        except OSError as error:
            logger.warning("%s cannot be read (%s)", path, error)
            return None
        finally:
            os.close(descriptor)
        if not data or checksums(data) != sums:  # a file that ends early gives neither
            logger.warning("%s is damaged: it is removed, and the shard read in its place", path)
            path.unlink(missing_ok=True)
            return None
        return data[start - first * BLOCK : start - first * BLOCK + length]

    @contextmanager
    def ahead(self, wants: Sequence[Want]) -> Iterator[Callable[[int], None]]:
        """Copy shards, those read first first, until the context ends; it gives what takes the count of reads."""
        copier = _Copier(self, wants)
        copier.start()
        try:
            yield copier.move_to
        finally:
            copier.stop()

    def copy(self, want: Want, needed_at: Callable[[str], float]) -> bool:
        """Whether the shard is copied now or being copied elsewhere; False where there is no room for it.

        Copies that are needed later than this one make room. Raises OSError, as of a full disk, and what
        ``want.read`` raises; nothing is left behind.
        """
        total = want.size + 4 * -(-want.size // BLOCK)
        path, part = self.folder / f"{want.key}{COPY}", self.folder / f"{want.key}{PART}"
        with self._locked():
            copies, taken = self._survey()
            if path in copies:
                os.utime(path)  # of copies that nobody is known to need, the one longest unused goes first
                return True
            if part.exists():
                return True
            if not self._has_made_room(total, copies, taken, needed_at, needed_at(want.key)):
                return False
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try_lock(descriptor)  # says that its writer lives
        try:
            os.posix_fallocate(descriptor, 0, total)  # a full disk shows now, and others see what is taken
            _fill(descriptor, want)
            os.fsync(descriptor)
            with self._locked():
                os.rename(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        return True

    def _survey(self) -> tuple[dict[Path, os.stat_result], int]:
        """The copies, and the bytes of those being made; what a killed process left of one is removed."""
        copies: dict[Path, os.stat_result] = {}
        taken = 0
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # a reader may remove a damaged copy
                if path.suffix == COPY:
                    copies[path] = path.stat()
                elif path.suffix == PART and _is_left_over(path):
                    path.unlink()
                elif path.suffix == PART:
                    taken += path.stat().st_size
        return copies, taken

    def _has_made_room(
        self,
        total: int,
        copies: dict[Path, os.stat_result],
        taken: int,
        needed_at: Callable[[str], float],
        before: float,
    ) -> bool:
        excess = total + taken + sum(status.st_size for status in copies.values()) - self.limit_bytes
        later = [path for path in copies if needed_at(path.stem) > before]
        later.sort(key=lambda path: (-needed_at(path.stem), copies[path].st_mtime))
        leaving = []
        while excess > 0 and later:
            leaving.append(later.pop(0))
            excess -= copies[leaving[-1]].st_size
        if excess > 0:
            return False
        for path in leaving:
            path.unlink(missing_ok=True)
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time counts, makes room and takes it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.folder / ".lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try_lock(descriptor, wait=True)
            yield
        finally:
            os.close(descriptor)


class _Copier(threading.Thread):
    """Copies shards while an epoch is read."""

    def __init__(self, cache: ShardCache, wants: Sequence[Want]) -> None:
        super().__init__(name="shard copies", daemon=True)
        self.cache, self.wants = cache, sorted(wants, key=lambda want: want.first)
        self._by_key = {want.key: want for want in wants}
        self._position = 0
        self._stopped = threading.Event()

    def move_to(self, position: int) -> None:
        self._position = position

    def stop(self) -> None:
        """It ends after the chunk that it is reading."""
        self._stopped.set()

    def run(self) -> None:
        try:
            for want in self.wants:
                self._copy(want)
        except _StoppedError:
            pass
        except (OSError, PoolError) as error:
            logger.warning(
                "no more shards are copied to %s in this epoch, the others are read in their place: %s",
                *(self.cache.folder, error),
            )

    def _copy(self, want: Want) -> None:
        """Copy a shard as soon as there is room for it, unless the epoch is past it by then."""

        def read(start: int, length: int) -> bytes:
            if self._stopped.is_set():
                raise _StoppedError
            return want.read(start, length)

        asked = Want(want.key, want.size, want.first, want.last, read)
        while want.last >= self._position and not self._stopped.is_set():
            if self.cache.copy(asked, self._needed_at):
                return
            self._stopped.wait(WAIT_SECONDS)

    def _needed_at(self, key: str) -> float:
        """The next place in the order that reads a shard; infinite if none is known."""
        want = self._by_key.get(key)
        return math.inf if want is None or want.last < self._position else max(want.first, self._position)


class _StoppedError(Exception):
    """The epoch is over."""


def checksums(data: bytes) -> bytes:
    """CRC-32 of each block, little-endian."""
    view = memoryview(data)
    return b"".join(zlib.crc32(view[i : i + BLOCK]).to_bytes(4, "little") for i in range(0, len(data), BLOCK))


def _fill(descriptor: int, want: Want) -> None:
    sums = []
    for start in range(0, want.size, CHUNK):
        data = want.read(start, min(CHUNK, want.size - start))
        sums.append(checksums(data))
        _write(descriptor, data, start)
    _write(descriptor, b"".join(sums), want.size)


def _write(descriptor: int, data: bytes, start: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, memoryview(data)[done:], start + done)


def _is_left_over(path: Path) -> bool:
    """Whether nobody writes to it any more."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return try_lock(descriptor) is True  # without locks nobody can tell
    finally:
        os.close(descriptor)
