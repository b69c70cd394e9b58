"""Tar files with the same bytes every time: no times, no owners."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True)
class Member:
    """One file of a tar."""

    name: str
    data: bytes


def write_tar(file: BinaryIO, members: Iterable[Member]) -> None:
    """Write ``members`` in order as a USTAR archive."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member in members:
            about = tarfile.TarInfo(member.name)
            about.size, about.mode = len(member.data), 0o644
            tar.addfile(about, io.BytesIO(member.data))
