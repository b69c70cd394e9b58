"""Small tar shards for tests: each image says its id in its pixels, each caption in its words."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

Entry = tuple[str, bytes]


def png(number: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """One colour, which spells the number; PNG's own checksums tell a damaged file."""
    return encoded(Image.new("RGB", size, (number >> 16 & 255, number >> 8 & 255, number & 255)), "PNG")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def number_of_image(image: Image.Image) -> int:
    red, green, blue = image.getpixel((0, 0))
    return red << 16 | green << 8 | blue


def words(number: int) -> str:
    return f"sample {number} {zlib.crc32(str(number).encode()):08x}"


def number_of_words(text: str) -> int | None:
    """The id in a caption, None if the caption was damaged."""
    parts = text.split(" ")
    number = int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else -1
    return number if text == words(number) else None


def sample(number: int, key: str | None = None, with_json: bool = False) -> list[Entry]:
    """The members of a sample, in the order in which img2dataset writes them."""
    key = f"{number:09d}" if key is None else key
    record = json.dumps({"caption": "not this one", "url": "x" * 300}).encode()
    entries = [(f"{key}.png", png(number)), (f"{key}.txt", words(number).encode())]
    return [entries[0], (f"{key}.json", record), entries[1]] if with_json else entries


def write_tar(path: Path, entries: Iterable[Entry], form: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_shards(folder: Path, counts: Sequence[int], first: int = 0) -> list[Path]:
    """Shards 00000.tar, ...; numbers rise over all shards."""
    paths = []
    for i, count in enumerate(counts):
        entries = [entry for n in range(first, first + count) for entry in sample(n)]
        paths.append(write_tar(folder / f"{i:05d}.tar", entries))
        first += count
    return paths
