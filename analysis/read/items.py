"""``predictions.npz`` of runs -> hits item by item, of the metrics that are their mean."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.read.results import Run
from benchmark.runs.predictions import Predictions, PredictionsError, read_predictions

Key = tuple[str, str, str, str]
"""Task, data set, metric and protocol."""


class NoItemsError(ValueError):
    """A metric's items are not known, or not those that its value was counted from; the message says why."""


@dataclass(frozen=True)
class Items:
    """What a metric was counted from."""

    data: str
    """Fingerprint of the items' set."""
    hits: np.ndarray
    """float64 [n], 0 or 1; their mean is the metric's value."""


def items_of(run: Run, key: Key) -> Items:
    """Raises NoItemsError."""
    name = f"{run.record['run']}: {' '.join(key[:3])}"
    found = _stored(run.folder.predictions, _measured(run)).get(key)
    if isinstance(found, str):
        raise NoItemsError(found)
    if found is None or found.items.dtype != bool or not found.data:
        raise NoItemsError(f"{name} has no items that can be paired")
    hits = found.items.astype(np.float64)
    (value,) = [m["value"] for m in run.record["metrics"] if _key(m) == key]
    if abs(hits.mean() - value) > 1e-6:
        raise NoItemsError(f"{name} is not the mean of its hits")
    return Items(found.data, hits)


def _measured(run: Run) -> tuple[Key, ...]:
    return tuple(_key(metric) for metric in run.record["metrics"])


def _key(metric: Mapping[str, Any]) -> Key:
    return metric["task"], metric["dataset"], metric["metric"], metric["protocol"]


@functools.lru_cache(maxsize=512)
def _stored(path: Path, keys: tuple[Key, ...]) -> Mapping[Key, Predictions | str]:
    """The file's predictions; without a file, or with a damaged one, the reason in the place of each."""
    try:
        return {one.key: one for one in read_predictions(path, keys)}
    except FileNotFoundError:
        return dict.fromkeys(keys, f"{path.parent.name} has no {path.name}")
    except PredictionsError as error:
        return dict.fromkeys(keys, str(error))
