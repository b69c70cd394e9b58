"""Lists of samples by key or id, as pruning lists come from elsewhere and are handed on.

``.npy``: DataComp's uids (pairs of unsigned 64-bit integers), ids, a flag a sample, or keys; ``.csv``, ``.tsv``
and ``.parquet``: a column of keys or ids; any other: a key a line.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmark.coreset.coreset import CoresetError
from benchmark.files import write_atomic, write_text
from benchmark.options import did_you_mean
from benchmark.pool.samples import PoolView

UID = np.dtype("u8,u8")
"""A uid of 32 hexadecimal digits as DataComp's files of subsets have it."""
COLUMNS = ("uid", "key", "id")
"""Where a table names samples, the first of these that it has; whole numbers in ``id`` are ids of the pool."""


@dataclass(frozen=True)
class Listed:
    """What a list says of a pool of N samples."""

    mask: np.ndarray
    """bool [N]: samples that the list names."""
    entries: int
    """Different keys or ids in the list."""
    missing: int
    """Those that name no sample."""
    repeated: int
    """Samples that are named by a key which an earlier sample has too."""


def listed(path: Path, pool: PoolView, column: str = "") -> Listed:
    """Look the entries of a list up in a pool. Raises CoresetError for a file that is none, or of another pool."""
    entries = read_list(path, column)
    if isinstance(entries, np.ndarray) and entries.dtype == bool:
        if len(entries) != pool.num_samples:
            raise CoresetError(f"{path}: flags of {len(entries)} samples, the pool has {pool.num_samples}")
        entries = np.flatnonzero(entries)
    mask = np.zeros(pool.num_samples, dtype=bool)
    if isinstance(entries, np.ndarray):
        ids = np.unique(entries)
        inside = ids[(ids >= 0) & (ids < pool.num_samples)]
        mask[inside] = True
        return Listed(mask, len(ids), len(ids) - len(inside), 0)
    wanted, found = set(entries), set[str]()
    if len(pool.keys) != pool.num_samples:
        raise CoresetError(f"{path}: a list of keys, and nobody tells the keys of this pool")
    for sample_id, key in enumerate(pool.keys):
        if key in wanted:
            mask[sample_id] = True
            found.add(key)
    return Listed(mask, len(wanted), len(wanted) - len(found), int(mask.sum()) - len(found))


def read_list(path: Path, column: str = "") -> np.ndarray | list[str]:
    """Keys; or ids, int64 [n]; or a flag a sample, bool [N]. Raises CoresetError that names the file."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            raise CoresetError(f"{path}: a coreset, which the method 'coreset' takes")
        if suffix == ".npy":
            return _from_array(path, np.load(path, allow_pickle=False))
        if suffix == ".parquet":
            name = _column(path, pq.read_schema(path).names, column)
            return _from_column(name, pq.read_table(path, columns=[name]).column(name))
        if suffix in (".csv", ".tsv"):
            return _from_csv(path, column, "\t" if suffix == ".tsv" else ",")
        return [key for line in path.read_text(encoding="utf-8").splitlines() if (key := line.strip())]
    except FileNotFoundError:
        raise CoresetError(f"{path}: no such file") from None
    except (OSError, EOFError, UnicodeError, pa.ArrowException) as error:
        raise CoresetError(f"{path}: cannot be read as a list of keys or ids: {error}") from error
    except ValueError as error:
        if isinstance(error, CoresetError):
            raise
        raise CoresetError(f"{path}: cannot be read as a list of keys or ids: {error}") from error


def save_keys(path: Path, keys: Sequence[str]) -> None:
    """Write a list, atomically: ``.npy`` as DataComp's uids, sorted; any other a key a line.

    Raises CoresetError for keys that the form cannot hold.
    """
    if path.suffix != ".npy":
        if broken := next((key for key in keys if key.strip() != key or len(key.splitlines()) != 1), None):
            raise CoresetError(f"{path}: the key {broken!r} cannot stand on a line: write .parquet or .csv")
        return write_text(path, "".join(f"{key}\n" for key in keys))
    try:
        uids = np.array([_uid(key) for key in keys], dtype=UID)
    except ValueError as error:
        raise CoresetError(
            f"{path}: holds DataComp's uids, and {error}: write .txt, .csv or .parquet, or give the pool the"
            " option 'key: uid'"
        ) from error
    uids.sort()
    write_atomic(path, lambda file: np.save(file, uids))


def _uid(key: str) -> tuple[int, int]:
    if len(key) != 32 or not all(digit in "0123456789abcdef" for digit in key):
        raise ValueError(f"the key {key!r} is not 32 hexadecimal digits")
    return int(key[:16], 16), int(key[16:], 16)


def _from_array(path: Path, array: np.ndarray) -> np.ndarray | list[str]:
    if (
        array.ndim == 1
        and array.dtype.names
        and [array.dtype[i].kind for i in range(len(array.dtype))] == ["u"] * 2
    ):
        return [f"{high:016x}{low:016x}" for high, low in array.tolist()]
    if array.ndim == 1 and array.dtype.kind in "iub":
        return array if array.dtype == bool else array.astype(np.int64)
    if array.ndim == 1 and array.dtype.kind in "US":
        return [key.decode() if isinstance(key, bytes) else key for key in array.tolist()]
    raise CoresetError(f"{path}: {array.dtype} {list(array.shape)} is no list of uids, ids, flags or keys")


def _from_csv(path: Path, column: str, separator: str) -> np.ndarray | list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file, delimiter=separator), [])
    name = _column(path, names, column)
    table = pa.csv.read_csv(
        path,
        parse_options=pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            include_columns=[name],
            column_types={name: pa.int64() if name == "id" else pa.string()},  # a key of digits keeps its zeros
        ),
    )
    return _from_column(name, table.column(name))


def _from_column(name: str, column: pa.ChunkedArray) -> np.ndarray | list[str]:
    column = column.drop_null()
    if name == "id" and pa.types.is_integer(column.type):
        return column.cast(pa.int64()).to_numpy()
    return column.cast(pa.string()).to_pylist()


def _column(path: Path, known: Sequence[str], column: str) -> str:
    if column and column not in known:
        raise CoresetError(f"{path} has no column '{column}'{did_you_mean(column, known)}")
    found = [column] if column else [name for name in COLUMNS if name in known] or list(known)[: len(known) == 1]
    if not found:
        raise CoresetError(
            f"{path} has the columns {', '.join(known)}: say with the option column which of them names samples"
        )
    return found[0]
