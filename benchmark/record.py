"""The one result format: ``record.json`` of a run, and the names of the files beside it.

A record is a plain dictionary that fits ``SCHEMA``; reading anything else is an error that names the file
and the key. Accuracies and recalls are fractions in [0, 1].
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from benchmark.files import write_text

SCHEMA_VERSION = 1

CONFIG_FILE = "config.yaml"
RECORD_FILE = "record.json"
ERROR_FILE = "error.json"
LOG_FILE = "log.jsonl"
STARTED_FILE = "job/started.json"
"""Written when an attempt starts; an error is the run's last word only if it is newer."""
CORESET_FILE = "coreset.npz"
FEATURES_FILE = "features.json"
"""What a pass over features leaves last, in place of a record."""
SKIPPED_FILE = "skipped.jsonl"
PLAN_FILE = "plan.json"
"""In a sweep's folder: the command that made it and the runs it asked for."""

TASKS = ("zero_shot", "retrieval", "linear_probe", "knn", "finetune")


class RecordError(ValueError):
    """A record that cannot be read: the message names the file, the key and what to do."""


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": False,
    }


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_NUMBER = {"type": "number"}
_MAYBE = {"type": ["number", "null"]}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_MAYBE_SHARE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_ANYTHING = {"type": "object"}

METRIC = _object(
    {
        "task": {"enum": list(TASKS)},
        "dataset": _TEXT,
        "metric": _TEXT,
        "value": _SHARE,
        "n": {"type": "integer", "minimum": 1},
        "ci95": {"type": "array", "items": _SHARE, "minItems": 2, "maxItems": 2},
        "protocol": _TEXT,
    }
)

EPOCH = _object({"epoch": _COUNT, "kept": _COUNT, "loss": _MAYBE, "seconds": _NUMBER, "lr": _NUMBER})

TRUTH = _object(
    # of the samples a method left out, which carry a planted flag; and how well the loss tells them apart
    {
        "flag": _TEXT,
        "base_rate": _SHARE,
        "precision": _MAYBE_SHARE,
        "recall": _MAYBE_SHARE,
        "auc": _MAYBE_SHARE,
        "candidates": {"type": "object", "additionalProperties": _MAYBE_SHARE},
    }
)

SCHEMA = _object(
    {
        "schema": {"const": SCHEMA_VERSION},
        "sweep": _TEXT,
        "run": _TEXT,
        "config": _ANYTHING,
        "framework": {"enum": ["clip", "moco"]},
        "model": _TEXT,
        "pool": _TEXT,
        "method": _TEXT,
        "seed": _COUNT,
        "code": _object(
            {"git_sha": {"type": ["string", "null"]}, "dirty": {"type": ["boolean", "null"]}},
            {"snapshot": _TEXT},  # of runs that worked from a copy of the code
        ),
        "versions": {"type": "object", "additionalProperties": _TEXT},
        "device": _TEXT,
        "num_ranks": {"type": "integer", "minimum": 1},
        "started": _TEXT,
        "finished": _TEXT,
        "pool_facts": _object(
            {
                "num_samples": _COUNT,
                "fingerprint": _TEXT,
                "skipped": {"type": "object", "additionalProperties": _COUNT},
            }
        ),
        "training": _object(
            {
                "epochs": _COUNT,
                "samples_full": _COUNT,
                "samples_seen": _COUNT,
                "pruning_rate": _SHARE,
                "seconds": _NUMBER,
                "data_seconds": _NUMBER,
                "pruning_seconds": _NUMBER,
                "samples_per_second": _NUMBER,
                "peak_memory_bytes": _COUNT,
                "final_loss": _MAYBE,
                "attempts": _COUNT,
                "by_epoch": {"type": "array", "items": EPOCH},
            }
        ),
        "metrics": {"type": "array", "items": METRIC},
        "evaluation_skipped": {"type": "array", "items": _object({"task": _TEXT, "reason": _TEXT})},
        "pruning_truth": {"type": "array", "items": TRUTH},
    }
)
_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
_VALID: set[tuple[str, int, int, int]] = set()
"""Files that this process has validated: a status that is watched reads each record again and again."""


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Validate, then write atomically with sorted keys. Raises RecordError if it does not fit the schema."""
    validate(record, path)
    write_text(path, json.dumps(record, sort_keys=True, indent=1, allow_nan=False) + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """Read and validate. Raises FileNotFoundError, or RecordError for anything but a record of this schema."""
    try:
        stat = path.stat()
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except ValueError as error:  # also what is not UTF-8
        raise RecordError(f"{path}: not JSON ({error}); move it away to have the run evaluated again") from error
    version = (str(path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if version not in _VALID:
        validate(record, path)
        _VALID.add(version)
    assert isinstance(record, dict)
    return record


def validate(record: Any, path: Path) -> None:
    """Raise RecordError naming ``path`` and the key unless ``record`` fits the schema."""
    if isinstance(record, dict) and record.get("schema") != SCHEMA_VERSION:
        found = record.get("schema", "none")
        raise RecordError(
            f"{path}: record of schema {found}; this version reads schema {SCHEMA_VERSION}:"
            " use the version that wrote it"
        )
    error = jsonschema.exceptions.best_match(_VALIDATOR.iter_errors(record))
    if error is not None:
        raise RecordError(f"{path}: {error.json_path.removeprefix('$.')}: {error.message}")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


def finite(value: float) -> float | None:
    """The value, or None where JSON has no number for it."""
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Metric:
    """One measured value with its 95 % interval, as a row of a record's ``metrics``."""

    task: str
    dataset: str
    metric: str
    value: float
    n: int
    ci95: tuple[float, float]
    protocol: str
    """Name and version of the way it was measured; two protocols are never compared."""

    def row(self) -> dict[str, Any]:
        return {**vars(self), "ci95": list(self.ci95)}
