"""Tables of paths and captions: CSV and the like, JSON lines, Parquet."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmark.options import did_you_mean
from benchmark.pool.samples import PoolError
from benchmark.pool.storage.decode import SampleFault, record_of
from benchmark.pool.storage.filelist import ListFormat, Listing, Row
from benchmark.pool.storage.parquet import cells, type_at

SEPARATORS = ("\t", ",", ";", "|")
SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet")
"""Of tables; the last three say their format, the others have a heading and a separator."""
BLOCK_BYTES = 16 << 20
"""Longest line of a table with a separator."""


@dataclass(frozen=True, kw_only=True)
class TableFormat(ListFormat):
    """Names of columns, as open_clip's ``--dataset-type csv`` has them."""

    kind: ClassVar[str] = "table"
    image: str = "filepath"
    caption: str = "title"
    """ "" for images alone."""
    key: str = ""
    """The column that names the samples; "" is the path."""
    separator: str = ""
    """ "" is that of tab, comma, semicolon and bar with which the heading has the columns."""

    @property
    def has_captions(self) -> bool:
        return bool(self.caption)

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(name for name in (self.image, self.caption, self.key) if name))

    def listing(self, name: str) -> Listing:
        suffix = os.path.splitext(name)[1].lower()
        read = _json_lines if suffix in (".jsonl", ".ndjson") else _parquet if suffix == ".parquet" else self._csv
        try:
            found, skipped = read(name, self.columns)
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise PoolError(f"{name} cannot be read as a table: {error}") from error
        rows = []
        for i, image in enumerate(found[self.image]):
            if not isinstance(image, str | bytes) or not image:
                skipped["image_missing"] += 1
                continue
            caption = found[self.caption][i] if self.caption else None
            rows.append(Row(os.fsdecode(image), caption, found[self.key][i] if self.key else image))
        return Listing(rows, skipped)

    def _csv(self, name: str, columns: Sequence[str]) -> tuple[dict[str, list[Any]], Counter[str]]:
        skipped = Counter[str]()

        def malformed(_row: Any) -> str:
            skipped["row_malformed"] += 1
            return "skip"

        table = pa.csv.read_csv(
            name,
            pa.csv.ReadOptions(block_size=BLOCK_BYTES),
            pa.csv.ParseOptions(
                delimiter=self._separator(name), newlines_in_values=True, invalid_row_handler=malformed
            ),
            # bytes, since a caption that is not UTF-8 is that sample's fault alone
            pa.csv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, pa.binary())),
        )
        return {column: table.column(column).to_pylist() for column in columns}, skipped

    def _separator(self, name: str) -> str:
        with open(name, "rb") as file:
            line = file.readline().rstrip(b"\r\n").decode("utf-8-sig")
        known: list[str] = []
        for separator in [self.separator] if self.separator else SEPARATORS:
            heading = next(csv.reader([line], delimiter=separator), [])
            if set(self.columns) <= set(heading):
                return separator
            known = max(known, heading, key=len)
        raise _no_column(name, next(column for column in self.columns if column not in known), known)


def _json_lines(name: str, columns: Sequence[str]) -> tuple[dict[str, list[Any]], Counter[str]]:
    found: dict[str, list[Any]] = {column: [] for column in columns}
    skipped, known = Counter[str](), list[str]()
    for line in Path(name).read_bytes().splitlines():
        if not line.strip():
            continue
        try:
            record = record_of(line.decode("utf-8", "surrogateescape"))
        except SampleFault:
            skipped["row_malformed"] += 1
            continue
        known = known or list(record)
        for column in columns:
            found[column].append(record.get(column))
    for column, values in found.items():
        if values and all(value is None for value in values):
            raise _no_column(name, column, known)
    return found, skipped


def _parquet(name: str, columns: Sequence[str]) -> tuple[dict[str, list[Any]], Counter[str]]:
    schema = pq.read_schema(name)
    for column in columns:
        type_at(name, schema, column, "image, caption or key")
    table = pq.read_table(name, columns=list(columns))
    return {column: list(cells(table, column)) for column in columns}, Counter()


def _no_column(name: str, column: str, known: Sequence[str]) -> PoolError:
    near = did_you_mean(column, known)
    return PoolError(
        f"{name} has no column '{column}'{near} (it has {', '.join(known) or 'none'}): say which with image,"
        " caption or key"
    )
