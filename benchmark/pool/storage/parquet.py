"""Images and captions in the rows of Parquet files; the row groups are the shards.

An image is a cell of bytes, or of ``{bytes, path}`` as Hugging Face's datasets write them. A row group is read
whole, so each process keeps those that it read last. Files are read by byte ranges: the footer, then the columns
that are asked for.
"""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmark.options import did_you_mean
from benchmark.pool.samples import TAIL, PoolError
from benchmark.pool.storage.byteranges import ByteRanges, Stamp, stamp
from benchmark.pool.storage.decode import SampleFault, captions_of
from benchmark.pool.storage.format import (
    Entry,
    Format,
    Reader,
    Scan,
    entries,
    image_fault,
    key_of,
    span,
    starts_of,
)
from benchmark.pool.storage.index import ShardIndex

KEPT_BYTES = 256 << 20
"""Of row groups that a process keeps; one is kept whatever it takes."""
MAX_GROUP_BYTES = 4 << 30
OPEN_FILES = 64
"""Whose footers a process keeps."""


@dataclass(frozen=True, kw_only=True)
class ParquetFormat(Format):
    """Names of columns; a dot leads into a struct (``image.path``)."""

    kind: ClassVar[str] = "parquet"
    image: str = "image"
    caption: str = "caption"
    """ "" for images alone."""
    key: str = ""
    """The column that names the samples; "" is the file's name and the row in it."""

    def scan(self, name: str) -> list[Scan]:
        """Reads the file once: lengths and ends of images stand nowhere else."""
        try:
            file = opened(name, stamp(name), ByteRanges())
        except pa.ArrowInvalid as error:
            return [Scan(fault=f"is no whole Parquet file: {error}")]
        columns = self._columns(name, file.schema_arrow)
        first, scans = 0, []
        for group in range(file.num_row_groups):
            _check_size(name, file, group)
            scan = Scan()
            try:
                self._scan(file.read_row_group(group, columns, use_threads=False), name, first, scan)
            except (pa.ArrowInvalid, OSError) as error:
                scan.fault = f"is damaged in row group {group}: {error}"
            scans.append(scan)
            first += file.metadata.row_group(group).num_rows
        return scans or [Scan()]

    def _scan(self, table: pa.Table, name: str, first: int, scan: Scan) -> None:
        """A row group whose first row is the ``first`` of the file."""
        images = image_column(table, self.image)
        starts = starts_of(lengths_of(images)).tolist()
        own = [f"{os.path.basename(name)}/{first + row}" for row in range(len(images))]
        rows = zip(images, cells(table, self.caption), cells(table, self.key) if self.key else own, strict=True)
        for start, (image, caption, key) in zip(starts, rows, strict=True):
            data = image.as_buffer()
            reason = image_fault(data.size) if data is not None else "image_missing"
            if reason:
                scan.skipped[reason] += 1
                continue
            try:
                several = entries(captions_of(caption), self.captions) if self.caption else [Entry(b"", False)]
                named = key_of(key)
            except SampleFault as fault:
                scan.skipped[fault.reason] += 1
                continue
            tail = data.slice(max(0, data.size - TAIL)).to_pybytes()
            for entry in several:
                scan.add(named, (start, data.size), tail, entry)

    def _columns(self, name: str, schema: pa.Schema) -> list[str]:
        """What is read of a row group. Raises PoolError for a column that is not there or holds something else."""
        image = type_at(name, schema, self.image, "image")
        if pa.types.is_struct(image) and image.get_field_index("bytes") >= 0:
            columns = [f"{self.image}.bytes"]
        elif is_bytes(image):
            columns = [self.image]
        else:
            raise PoolError(f"{name}: the column '{self.image}' holds {image}, not bytes nor {{bytes, path}}")
        if self.caption:
            text = type_at(name, schema, self.caption, "caption")
            if not is_text(getattr(text, "value_type", text)):
                raise PoolError(f"{name}: the column '{self.caption}' holds {text}, not text nor a list of texts")
            columns.append(self.caption)
        if self.key:
            type_at(name, schema, self.key, "key")
            columns.append(self.key)
        return columns

    def reader(self, index: ShardIndex) -> Reader:
        return RowReader(index, self.image)


class RowReader(Reader):
    """Takes images out of row groups, of which it keeps those read last."""

    def __init__(self, index: ShardIndex, image: str) -> None:
        super().__init__(index)
        self.image, self.ranges = image, ByteRanges()
        self._files: OrderedDict[tuple[str, Stamp], pq.ParquetFile] = OrderedDict()
        self._groups: OrderedDict[int, tuple[pa.LargeBinaryArray, np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, number: int, start: int, length: int) -> bytes:
        images, starts = self._group(number)
        return span(starts, lambda row: images[row].as_buffer().to_pybytes(), start, length)

    def _group(self, number: int) -> tuple[pa.LargeBinaryArray, np.ndarray]:
        with self._lock:
            if number not in self._groups:
                images = self._loaded(number)
                self._groups[number] = images, starts_of(lengths_of(images))
                while len(self._groups) > 1 and sum(kept.nbytes for kept, _ in self._groups.values()) > KEPT_BYTES:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(number)
            return self._groups[number]

    def _loaded(self, number: int) -> pa.LargeBinaryArray:
        shard = self.index.shards[number]
        try:
            file = self._opened(shard.name, shard.stamp)
            column = self.image
            if pa.types.is_struct(type_at(shard.name, file.schema_arrow, column, "image")):
                column = f"{column}.bytes"
            table = file.read_row_group(shard.part, [column], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise PoolError(f"{shard.label} cannot be read: {error}") from error
        return image_column(table, self.image)

    def _opened(self, name: str, state: Stamp) -> pq.ParquetFile:
        if (name, state) not in self._files:
            self._files[name, state] = opened(name, state, self.ranges)
            while len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)
        self._files.move_to_end((name, state))
        return self._files[name, state]


class _RangeFile(io.RawIOBase):
    """A file in one state, read by byte ranges."""

    def __init__(self, name: str, state: Stamp, ranges: ByteRanges) -> None:
        self.file, self.state, self.ranges, self.place = name, state, ranges, 0

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self.state.size - self.place)
        size = left if size is None or size < 0 else min(size, left)
        data = self.ranges.read(self.file, self.place, size, self.state) if size else b""
        self.place += size
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.state.size}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def opened(name: str, state: Stamp, ranges: ByteRanges) -> pq.ParquetFile:
    """A file with its footer read. Raises PoolError if it cannot be read, pa.ArrowInvalid if it is none."""
    return pq.ParquetFile(_RangeFile(name, state, ranges), pre_buffer=False)


def image_column(table: pa.Table, name: str) -> pa.LargeBinaryArray:
    """The images of a table, null where there is none."""
    column = column_of(table, name)
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    return _joined(column.cast(pa.large_binary()))


def lengths_of(images: pa.LargeBinaryArray) -> np.ndarray:
    """Bytes of each image, int64 [n]; 0 for null."""
    return pc.fill_null(pc.binary_length(images), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def cells(table: pa.Table, name: str) -> Iterator[Any]:
    """The cells of a column; texts as the bytes they are, whether they are UTF-8 or not."""
    if not name:
        return iter([None] * table.num_rows)
    column = column_of(table, name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_text(column.type):
        column = column.cast(pa.large_binary())
    elif is_list(column.type):
        column = column.cast(pa.large_list(pa.large_binary()))
    return iter(column.to_pylist())


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name in table.column_names:
        return table.column(name)
    outer, _, inner = name.partition(".")
    return pc.struct_field(table.column(outer), inner.split("."))


def is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def type_at(file: str, schema: pa.Schema, name: str, option: str) -> pa.DataType:
    """The type of a column, or of a field within one. Raises PoolError that lists the columns."""
    if name in schema.names:
        return schema.field(name).type
    outer, *inner = name.split(".")
    found = schema.field(outer).type if outer in schema.names else None
    for part in inner:
        place = found.get_field_index(part) if found is not None and pa.types.is_struct(found) else -1
        found = found.field(place).type if found is not None and place >= 0 else None
    if found is None:
        near = did_you_mean(name, schema.names)
        raise PoolError(
            f"{file} has no column '{name}'{near} (it has {', '.join(schema.names)}): say which with {option}"
        )
    return found


def _joined(column: pa.ChunkedArray) -> Any:
    found = column.combine_chunks()
    if isinstance(found, pa.ChunkedArray):  # of no chunk, or of one
        found = found.chunk(0) if found.num_chunks else pa.array([], column.type)
    return found


def _check_size(name: str, file: pq.ParquetFile, group: int) -> None:
    size = file.metadata.row_group(group).total_byte_size
    if size > MAX_GROUP_BYTES:
        raise PoolError(
            f"{name}: row group {group} takes {size / 1e9:.1f} GB, and a process reads one whole: write the file"
            " anew with groups of 100 to 1,000 rows (pyarrow: row_group_size=100)"
        )
