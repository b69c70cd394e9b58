"""Members of npm's .tgz, of Debian's .deb and of a folder, as one mapping: path -> bytes. Nothing is unpacked.

Links are followed inside of the archive or folder alone.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

_DEB_MAGIC = b"!<arch>\n"
_DEB_HEADER = 60
MAX_LINKS = 8
"""Links followed one after the other."""


class ArchiveError(ValueError):
    """An archive that is damaged, or not of the expected kind."""


def members_of_tgz(path: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    """The files of an npm package that are in ``wanted``: folders end in ``/``. Raises ArchiveError."""
    try:
        with tarfile.open(path, "r:gz") as tar:
            return _from_tar(tar, "package", wanted)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from error


def members_of_deb(path: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    """The files below ``usr/share/`` of a Debian package that are in ``wanted``. Raises ArchiveError."""
    try:
        with path.open("rb") as file:
            name, size = _seek_data(file, path)
            if not name.endswith((".xz", ".gz", ".tar")):
                raise ArchiveError(f"{path}: {name} is packed in a way that is not known")
            part = cast(BinaryIO, _Part(file, size))
            with tarfile.open(fileobj=part, mode="r|*") as tar:
                return _from_tar(tar, "usr/share", wanted)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f"{path} cannot be read: {error}") from error


def members_of_folder(folder: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    """The files of ``folder`` that are in ``wanted``. Raises ArchiveError for a link that leads out of it."""
    root = folder.resolve()
    found: dict[str, bytes] = {}
    for name in wanted:
        top = folder / name
        if top.is_file():
            paths = [top]
        else:
            paths = [Path(place, file) for place, _, files in os.walk(top) for file in files]
        for path in paths:
            if not path.resolve().is_relative_to(root):
                raise ArchiveError(f"{path} is a link that leads out of {folder}")
            if path.is_file():  # a link may lead nowhere
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def _from_tar(tar: tarfile.TarFile, prefix: str, wanted: Sequence[str]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    for member in tar:
        name = posixpath.relpath(posixpath.normpath(member.name), prefix)
        if not _is_wanted(name, wanted):
            continue
        if member.issym():
            links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        elif member.islnk():
            links[name] = posixpath.relpath(posixpath.normpath(member.linkname), prefix)
        elif member.isfile():
            content = tar.extractfile(member)
            assert content is not None
            files[name] = content.read()
    for name, target in links.items():
        for _ in range(MAX_LINKS):
            if target not in links:
                break
            target = links[target]
        if target in files:
            files[name] = files[target]
    return files


def _is_wanted(name: str, wanted: Sequence[str]) -> bool:
    return any(name == item or (item.endswith("/") and name.startswith(item)) for item in wanted)


def _seek_data(file: BinaryIO, path: Path) -> tuple[str, int]:
    """Go to the start of ``data.tar.*`` of a .deb, which is an ``ar`` archive; returns its name and size."""
    if file.read(len(_DEB_MAGIC)) != _DEB_MAGIC:
        raise ArchiveError(f"{path} is no Debian package")
    while len(header := file.read(_DEB_HEADER)) == _DEB_HEADER:
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            return name, size
        file.seek(size + size % 2, os.SEEK_CUR)
    raise ArchiveError(f"{path} holds no data.tar")


class _Part:
    """The next ``size`` bytes of a file, as something to read from."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left = file, size

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(data)
        return data
