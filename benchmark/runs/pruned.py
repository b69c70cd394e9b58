"""``pruned.npz``: what the report tells of a run's pruning sample by sample, class by class and cycle by cycle.

It lies beside a record and is small: counts, histograms, two dozen samples with their thumbnails, and for pools of
up to ``MOST_VISITS`` samples how often each was trained on. N below is the number of samples of the pool.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from benchmark.files import write_atomic

VERSION = 1
INDEX = "index"
"""The array that holds everything but ``visits`` and ``thumbnails``, as JSON text."""

MOST_VISITS = 200_000
"""Pools of more samples leave counts, and of the gallery's samples alone how often each was trained on."""
MOST_CAPTION = 200
"""Letters of a caption that are kept."""
THUMBNAIL = 48
"""Largest side of a thumbnail in pixels: two dozen take 166 KB at most, before compression."""


class PrunedError(ValueError):
    """A file that cannot be read; the message names it and what is wrong in it."""


@dataclass(frozen=True)
class Shown:
    """One sample of the gallery."""

    kind: str
    """Why it is shown: a method's kind of candidate, ``lowest_loss``, ``highest_loss`` or ``left_out``."""
    id: int
    key: str
    caption: str
    """Cut at ``MOST_CAPTION`` letters."""
    class_name: str | None
    visits: int
    """Epochs that trained on it."""
    losses: Sequence[tuple[int, float]]
    """Epoch and mean loss of the two directions, for every epoch in which the method observed it."""


@dataclass(frozen=True)
class ClassCount:
    """One class of the pool."""

    name: str
    samples: int
    visits: int
    """Over all its samples and epochs."""


@dataclass(frozen=True)
class Preparation:
    """What an epoch that marked candidates found."""

    epoch: int
    counts: Mapping[str, int]
    """Candidates by kind."""
    histograms: Mapping[str, Sequence[int]]
    """Samples by mean loss between ``Pruned.loss_edges``: ``all``, and candidates by kind."""
    jaccard: Mapping[str, float | None]
    """By kind, the overlap with the candidates of the preparation before; None for the first, or where both
    have none."""


@dataclass(frozen=True)
class Pruned:
    """What one run left."""

    fingerprint: str
    num_samples: int
    epochs: int
    visits_histogram: Sequence[int]
    """Samples by epochs that trained on them: 0, 1, ..., ``epochs``."""
    classes: Sequence[ClassCount]
    """Empty where the pool knows none."""
    loss_edges: Sequence[float]
    preparations: Sequence[Preparation]
    cycles: Mapping[str, Sequence[int]]
    """By kind, samples that 0, 1, ... preparations made candidates; ``any`` takes all kinds together."""
    gallery: Sequence[Shown]
    thumbnails: np.ndarray
    """uint8 [len(gallery), side, side, 3]"""
    visits: np.ndarray | None
    """Unsigned integers [N]: epochs that trained on a sample; None for larger pools."""


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _by_kind(values: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


_TEXT, _NUMBER = {"type": "string"}, {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}
_PAIR = {"type": "array", "prefixItems": [_COUNT, _NUMBER], "minItems": 2, "maxItems": 2}
SCHEMA = _object(
    schema={"const": VERSION},
    fingerprint=_TEXT,
    num_samples=_COUNT,
    epochs=_COUNT,
    visits_histogram=_list(_COUNT),
    classes=_list(_object(name=_TEXT, samples={"type": "integer", "minimum": 1}, visits=_COUNT)),
    loss_edges=_list(_NUMBER),
    preparations=_list(
        _object(
            epoch=_COUNT,
            counts=_by_kind(_COUNT),
            histograms=_by_kind(_list(_COUNT)),
            jaccard=_by_kind({"type": ["number", "null"], "minimum": 0, "maximum": 1}),
        )
    ),
    cycles=_by_kind(_list(_COUNT)),
    gallery=_list(
        _object(
            kind=_TEXT,
            id=_COUNT,
            key=_TEXT,
            caption=_TEXT,
            class_name={"type": ["string", "null"]},
            visits=_COUNT,
            losses=_list(_PAIR),
        )
    ),
)
_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def write_pruned(path: Path, pruned: Pruned) -> None:
    """Write atomically. Raises PrunedError if it does not fit the schema."""
    told = asdict(pruned)
    arrays = {name: array for name in ("thumbnails", "visits") if (array := told.pop(name)) is not None}
    index = json.loads(json.dumps({"schema": VERSION, **told}))  # tuples become lists
    _check(index, arrays, path)
    text = json.dumps(index, sort_keys=True).encode("utf-8", "backslashreplace")
    content: dict[str, Any] = {INDEX: np.frombuffer(text, dtype=np.uint8), **arrays}
    write_atomic(path, lambda file: np.savez_compressed(file, **content))


def read_pruned(path: Path) -> Pruned:
    """What ``write_pruned`` wrote. Raises FileNotFoundError, or PrunedError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        index = json.loads(arrays.pop(INDEX).tobytes())
    except FileNotFoundError:
        raise
    except KeyError:
        raise PrunedError(f"{path}: {INDEX}: absent, so this is no pruned.npz") from None
    except Exception as error:  # damaged bytes lead zipfile, zlib and numpy to errors of every kind
        raise PrunedError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
    _check(index, arrays, path)
    del index["schema"]
    lists: dict[str, Any] = {
        "classes": [ClassCount(**one) for one in index.pop("classes")],
        "preparations": [Preparation(**one) for one in index.pop("preparations")],
        "gallery": [Shown(**one) for one in index.pop("gallery")],
    }
    return Pruned(thumbnails=arrays["thumbnails"], visits=arrays.get("visits"), **lists, **index)


def _check(index: Any, arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Raise PrunedError naming ``path`` and the key unless all fits together."""
    if isinstance(index, dict) and index.get("schema") != VERSION:
        found = index.get("schema", "none")
        raise PrunedError(
            f"{path}: schema: {found}; this version reads schema {VERSION}: use the one that wrote it"
        )
    error = jsonschema.exceptions.best_match(_VALIDATOR.iter_errors(index))
    if error is not None:
        raise PrunedError(f"{path}: {error.json_path.removeprefix('$.')}: {error.message}")
    bins, shown = max(len(index["loss_edges"]) - 1, 0), len(index["gallery"])
    wanted: dict[str, tuple[bool, str]] = {
        "visits_histogram": (
            len(index["visits_histogram"]) == index["epochs"] + 1
            and sum(index["visits_histogram"]) == index["num_samples"],
            f"a count for 0 to {index['epochs']} epochs, of all {index['num_samples']} samples",
        ),
        "preparations": (
            all(len(h) == bins for one in index["preparations"] for h in one["histograms"].values()),
            f"histograms of {bins} counts",
        ),
        "thumbnails": (_are_pictures(arrays.get("thumbnails"), shown), f"uint8 [{shown}, side, side, 3]"),
        "visits": (
            "visits" not in arrays
            or (arrays["visits"].dtype.kind == "u" and arrays["visits"].shape == (index["num_samples"],)),
            f"unsigned integers [{index['num_samples']}]",
        ),
    }
    for key, (holds, what) in wanted.items():
        if not holds:
            raise PrunedError(f"{path}: {key}: expected {what}")


def _are_pictures(array: np.ndarray | None, count: int) -> bool:
    if array is None or array.dtype != np.uint8 or array.ndim != 4:
        return False
    return array.shape[0] == count and array.shape[1] == array.shape[2] and array.shape[3] == 3
