"""The members of a tar file, from its headers alone: ustar, GNU long names and pax headers.

Several times as fast as ``tarfile``, and it tells a tar that is cut short from one that ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

BLOCK = 512
WINDOW = 4096
"""Bytes read at a header: the next ones may be among them."""
MAX_NAME_BYTES = 1 << 20
_PAX = (b"x", b"X")
_EXTRA = (b"L", b"K", b"g", *_PAX)  # say something of the member that follows, or of all (g: not read)
_REGULAR = (b"0", b"\0", b"7", b"S")
_NO_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
_DIGITS = frozenset(b"01234567")

Read = Callable[[int, int], bytes]
"""(offset, length) -> bytes, fewer at the end of the file."""


class TarFault(ValueError):
    """Where a shard stops being a tar file."""


@dataclass
class Member:
    """A regular file in a tar."""

    name: bytes
    start: int
    """Offset of its data, a multiple of 512."""
    length: int
    is_sparse: bool = False
    """Stored without its holes: its bytes are not those of the file."""


def members(read: Read, total: int) -> Iterator[Member]:
    """Regular files of a tar of ``total`` bytes, in order. Raises TarFault where it is cut or damaged."""
    offset = 0
    long_name: bytes | None = None  # from extra headers, for the member that follows them
    long_size: int | None = None
    is_sparse = False
    window_start, window = 0, b""
    while True:
        if offset < window_start or offset + BLOCK > window_start + len(window):
            window_start, window = offset, read(offset, WINDOW)
        header = window[offset - window_start : offset - window_start + BLOCK]
        if header[:2] == b"\x1f\x8b":
            raise TarFault("is compressed: unpack it with gunzip, so that samples can be read by their place")
        if len(header) < BLOCK:
            raise TarFault(f"ends at byte {offset + len(header)} without the mark of a tar's end: cut short")
        if not header.strip(b"\0"):
            return
        _check(header, offset)
        flag, size = header[156:157], _number(header[124:136], offset)
        if flag in _EXTRA:
            data = _small(read, offset + BLOCK, size)
            if flag == b"L":
                long_name = data.split(b"\0", 1)[0]
            elif flag in _PAX:
                path, long_size, is_sparse = _pax(data, offset)
                long_name = long_name if path is None else path
            offset += BLOCK + _padded(size)
            continue
        start = offset + BLOCK
        if flag == b"S":
            is_sparse, start = True, start + _map_of_holes(read, start, header)
        member = Member(_name(header) if long_name is None else long_name, start, long_size or size, is_sparse)
        long_name, long_size, is_sparse = None, None, False
        if flag in _REGULAR and not member.name.endswith(b"/"):
            if member.start + member.length > total:
                raise TarFault(f"ends within {member.name.decode('utf-8', 'backslashreplace')}: cut short")
            yield member
        offset = member.start + (0 if flag in _NO_DATA else _padded(member.length))


def _small(read: Read, start: int, size: int) -> bytes:
    if size > MAX_NAME_BYTES:
        raise TarFault(f"is damaged: a name of {size} bytes at byte {start}")
    data = read(start, size)
    if len(data) < size:
        raise TarFault("ends within a long name: cut short")
    return data


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and header[345]:
        return header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name


def _check(header: bytes, offset: int) -> None:
    wanted = _number(header[148:156], offset)
    plain = sum(header) - sum(header[148:156]) + 8 * 32
    if plain != wanted:
        signed = np.frombuffer(header, np.int8).sum(dtype=int) - np.frombuffer(header[148:156], np.int8).sum(
            dtype=int
        )
        if int(signed) + 8 * 32 != wanted:  # some old writers summed signed bytes
            raise TarFault(f"is damaged: no tar header at byte {offset}")


def _number(digits: bytes, offset: int) -> int:
    """An octal number, or GNU's binary form of numbers that need more than 11 digits."""
    if digits[0] & 0x80:
        number = int.from_bytes(digits[1:], "big") if digits[0] == 0x80 else -1
    else:
        text = digits.split(b"\0", 1)[0].strip()
        number = int(text or b"0", 8) if _DIGITS.issuperset(text) else -1
    if number < 0 or number > 1 << 50:
        raise TarFault(f"is damaged: no number in the tar header at byte {offset}")
    return number


def _pax(data: bytes, offset: int) -> tuple[bytes | None, int | None, bool]:
    """``path`` and ``size`` of a pax header, records of the form ``27 path=some/name.jpg\\n``, and whether it is
    that of a sparse file."""
    path, size, is_sparse = None, None, False
    start, end = 0, len(data.rstrip(b"\0"))
    while start < end:
        space = data.find(b" ", start, start + 9)
        digits = data[start:space] if space > start else b""
        length = int(digits) if digits.isdigit() else 0
        record = data[space + 1 : start + length]
        if length <= len(digits) + 1 or start + length > len(data) or not record.endswith(b"\n"):
            raise TarFault(f"is damaged: no pax record in the header at byte {offset}")
        keyword, _, value = record[:-1].partition(b"=")
        if keyword == b"path":
            path = value
        elif keyword == b"size":
            if not value.isdigit() or len(value) > 15:
                raise TarFault(f"is damaged: a size in the pax header at byte {offset}")
            size = int(value)
        elif keyword.startswith(b"GNU.sparse."):
            is_sparse = True
            path = value if keyword == b"GNU.sparse.name" else path
        start += length
    return path, size, is_sparse


def _map_of_holes(read: Read, offset: int, header: bytes) -> int:
    """Bytes of the headers that follow a sparse file's own, at ``offset``: they tell where its holes are."""
    more, place = header[482], offset
    while more:
        block = read(place, BLOCK)
        if len(block) < BLOCK:
            raise TarFault("ends within the map of a sparse file: cut short")
        more, place = block[504], place + BLOCK
    return place - offset


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
