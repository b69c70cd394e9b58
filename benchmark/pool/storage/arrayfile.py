"""One file of named arrays with a JSON header, mapped into memory: opened in milliseconds, shared by processes.

The file is an uncompressed ``.npz``; ``numpy.load`` reads it too.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from benchmark.files import write_atomic

HEADER = "header"
_LOCAL_HEADER = struct.Struct("<26xHH")  # a zip entry: lengths of its name and of its extra field


class ArrayFileError(ValueError):
    """A file that is damaged or not of the wanted kind."""


def cache_folder() -> Path:
    """``$SCAN_BENCH_CACHE``, else ``~/.cache/scan-bench``."""
    return Path(os.environ.get("SCAN_BENCH_CACHE") or Path.home() / ".cache" / "scan-bench")


def save(
    places: Sequence[Path], header: Callable[[Path], Mapping[str, Any]], arrays: Mapping[str, np.ndarray]
) -> Path:
    """Write atomically to the first of ``places`` that can be written, and say which that was.

    ``header`` gives the header for a place. Raises OSError if no place can be written.
    """
    errors = []
    for path in places:
        text = np.frombuffer(json.dumps(header(path)).encode(), dtype=np.uint8)
        columns: dict[str, Any] = {HEADER: text, **arrays}
        try:
            write_atomic(path, partial(np.savez, **columns))
        except OSError as error:
            errors.append(f"{path}: {error.strerror}")
        else:
            return path
    raise OSError(f"no place to write it ({'; '.join(errors)}): set SCAN_BENCH_CACHE to a folder that has one")


def load(path: Path, verify: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and read-only arrays that live in the page cache; ``verify`` reads all bytes to check their CRC.

    Raises ArrayFileError, and OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
            arrays = {
                entry.filename.removesuffix(".npy"): _array(file, mapped, entry, verify) for entry in entries
            }
            header = json.loads(arrays.pop(HEADER).tobytes())
        except ArrayFileError:
            raise
        except OSError:
            raise
        except Exception as error:  # damaged bytes lead zipfile and numpy to errors of every kind
            raise ArrayFileError(f"{path} is no file of arrays: {error}") from error
    if not isinstance(header, dict):
        raise ArrayFileError(f"{path} has no header")
    return header, arrays


def _array(file: BinaryIO, mapped: mmap.mmap, entry: zipfile.ZipInfo, verify: bool) -> np.ndarray:
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ArrayFileError(f"{entry.filename} is compressed")
    start = entry.header_offset
    start += 30 + sum(_LOCAL_HEADER.unpack_from(mapped, start))
    if start + entry.file_size > len(mapped):
        raise ArrayFileError(f"{entry.filename} ends early")
    if verify and zlib.crc32(memoryview(mapped)[start : start + entry.file_size]) != entry.CRC:
        raise ArrayFileError(f"{entry.filename} is damaged: its checksum differs")
    file.seek(start)
    major, _ = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject or len(shape) != 1:
        raise ArrayFileError(f"{entry.filename} is not a plain one-dimensional array")
    if not shape[0]:
        return np.zeros(0, dtype)
    return np.frombuffer(mapped, dtype, shape[0], file.tell())
