"""The formats that an index may be of."""

from __future__ import annotations

from typing import Any

from benchmark.pool.samples import PoolError
from benchmark.pool.storage.filelist import AnnotationFormat, FolderFormat
from benchmark.pool.storage.format import Format
from benchmark.pool.storage.index import ShardIndex
from benchmark.pool.storage.parquet import ParquetFormat
from benchmark.pool.storage.tables import TableFormat
from benchmark.pool.storage.tarscan import TarFormat

FORMATS: dict[str, type[Format]] = {
    form.kind: form for form in (TarFormat, ParquetFormat, TableFormat, FolderFormat, AnnotationFormat)
}


def format_of(index: ShardIndex) -> Format:
    """The format that an index says. Raises PoolError for one that this version does not know."""
    told: dict[str, Any] = dict(index.stored or {"kind": TarFormat.kind})
    try:
        return FORMATS[told.pop("kind")](**told)
    except (KeyError, TypeError) as error:
        raise PoolError(f"{index.path} is not an index of this version") from error
