"""What metrics were counted from, item by item: hits as bits, ranks and labels as small integers, losses.

``predictions.npz`` lies beside a record and holds one table a (task, data set, metric, protocol). Two models
measured on one data set (the same ``data``, a hash of its items) can be compared item by item.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.files import write_atomic
from benchmark.runs.record import Metric

VERSION = 1
KEY = ("task", "dataset", "metric", "protocol")
INDEX = "index"
"""The array that holds the JSON text of all entries."""


class PredictionsError(ValueError):
    """A file of predictions that cannot be read; the message names it and says what to do."""


@dataclass(frozen=True)
class Predictions:
    """The items of one metric."""

    task: str
    dataset: str
    metric: str
    protocol: str
    data: str
    """Fingerprint of the set the items belong to; "" if its content is not known: then nothing can be paired."""
    items: np.ndarray
    """Hits, bool [n]; ranks (0 is the top) or predicted labels, integers [n]; or losses, float [n], as float32."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.task, self.dataset, self.metric, self.protocol


def of_metrics(metrics: Iterable[Metric], data: str) -> list[Predictions]:
    """Those of the metrics that carry their items; ``data`` is the fingerprint of the set these belong to."""
    return [
        Predictions(m.task, m.dataset, m.metric, m.protocol, data, np.asarray(m.items))
        for m in metrics
        if m.items is not None
    ]


def merged(old: Iterable[Predictions], new: Sequence[Predictions]) -> list[Predictions]:
    """All, each key once: of an old and a new one the new one."""
    replaced = {one.key for one in new}
    return [one for one in old if one.key not in replaced] + list(new)


def write_predictions(path: Path, found: Sequence[Predictions]) -> None:
    """Write atomically; equal arrays (the hits behind two metrics) are stored once."""
    arrays: dict[str, np.ndarray] = {}
    names: dict[tuple[str, bytes], str] = {}
    entries = []
    for one in sorted(found, key=lambda one: one.key):
        packed = _packed(one.items)
        name = names.setdefault(
            (f"{one.items.dtype.kind} {packed.dtype}", packed.tobytes()), f"items_{len(names)}"
        )
        arrays[name] = packed
        told = {key: value for key, value in vars(one).items() if key != "items"}
        entries.append({**told, "n": len(one.items), "hits": one.items.dtype == bool, "array": name})
    text = json.dumps({"version": VERSION, "entries": entries}, sort_keys=True).encode()
    content: dict[str, Any] = {INDEX: np.frombuffer(text, dtype=np.uint8), **arrays}
    write_atomic(path, lambda file: np.savez_compressed(file, **content))


def read_predictions(path: Path, keys: Container[tuple[str, str, str, str]] | None = None) -> list[Predictions]:
    """What ``write_predictions`` wrote, or of it the metrics of ``keys`` alone.

    Raises FileNotFoundError, or PredictionsError for anything else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            index = json.loads(arrays[INDEX].tobytes())
            if index["version"] != VERSION:
                raise ValueError(f"version {index['version']}; this code reads version {VERSION}")
            entries = [e for e in index["entries"] if keys is None or tuple(e[k] for k in KEY) in keys]
            return [_entry(entry, arrays) for entry in entries]
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged bytes lead zipfile, zlib and numpy to errors of every kind
        raise PredictionsError(
            f"{path}: cannot be read ({error}); move it away and evaluate the run again"
        ) from error


def paired(a: Predictions, b: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """The items of two models, one by one. Raises ValueError unless both were measured alike on the same items."""
    if a.key != b.key:
        raise ValueError(f"{' '.join(a.key)} cannot be paired with {' '.join(b.key)}")
    if not a.data or a.data != b.data or len(a.items) != len(b.items):
        raise ValueError(f"{a.dataset}: not the same items ({a.data or 'unknown'} and {b.data or 'unknown'})")
    return a.items, b.items


def _packed(items: np.ndarray) -> np.ndarray:
    assert items.ndim == 1, items.shape
    if items.dtype == bool:
        return np.packbits(items)
    if items.dtype.kind == "f":
        return items.astype(np.float32)
    assert items.dtype.kind in "iu", items.dtype
    low, high = (int(items.min()), int(items.max())) if len(items) else (0, 0)
    return items.astype(np.promote_types(np.min_scalar_type(low), np.min_scalar_type(high)))


def _entry(entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Predictions:
    stored = arrays[entry["array"]]
    items = np.unpackbits(stored, count=entry["n"]).astype(bool) if entry["hits"] else stored
    if len(items) != entry["n"]:
        raise ValueError(f"{entry['array']} holds {len(items)} items, not {entry['n']}")
    return Predictions(items=items, **{k: entry[k] for k in ("task", "dataset", "metric", "protocol", "data")})
