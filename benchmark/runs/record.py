"""The one result format: ``record.json`` of a run.

A record is a plain dictionary that fits ``SCHEMA``; reading anything else is an error that names the file
and the key. Accuracies, recalls and mean reciprocal ranks are fractions in [0, 1], more is better; the metrics in
``NATS`` are nats from 0 on, less is better.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from benchmark.files import SEAL, sealed, unsealed, write_text
from benchmark.runs.schema import quick_check

SCHEMA_VERSION = 1

NATS = ("image_to_text_infonce", "text_to_image_infonce")
"""Metrics that are no fraction."""

CONTROL_KINDS = ("pixels", "untrained")
"""What values of probes are held against."""

TASKS = ("zero_shot", "retrieval", "linear_probe", "few_shot", "knn", "finetune")


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
_NOT_NEGATIVE = {"type": "number", "minimum": 0}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_MAYBE_SHARE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_ANYTHING = {"type": "object"}

METRIC = _object(
    {
        "task": {"enum": list(TASKS)},
        "dataset": _TEXT,
        "metric": _TEXT,
        "value": _NOT_NEGATIVE,
        "n": {"type": "integer", "minimum": 1},
        "ci95": {"type": "array", "items": _NOT_NEGATIVE, "minItems": 2, "maxItems": 2},
        "protocol": _TEXT,
    },
    {"left_out": {"type": "integer", "minimum": 1}},  # images of the task's sets that could not be decoded
) | {
    "if": {"properties": {"metric": {"enum": list(NATS)}}},
    "else": {"properties": {"value": _SHARE, "ci95": {"items": _SHARE}}},
}

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
    },
    {"random_precision": _MAYBE_SHARE, "random_recall": _MAYBE_SHARE},  # of as many samples drawn at random
)

CODE = _object(
    {"git_sha": {"type": ["string", "null"]}, "dirty": {"type": ["boolean", "null"]}},
    {"snapshot": _TEXT},  # of runs that worked from a copy of the code
)
VERSIONS = {"type": "object", "additionalProperties": _TEXT}

SKIPPED = {
    "type": "array",
    # options: those of the task, data set included; data_found: it failed though the data could be opened;
    # dataset: the one of further data sets that was skipped, where the task itself was not
    "items": _object(
        {"task": _TEXT, "reason": _TEXT},
        {"options": _ANYTHING, "data_found": {"type": "boolean"}, "dataset": {"type": ["string", "object"]}},
    ),
}

LATER_EVALUATION = _object(
    {
        "tasks": {"type": "array", "items": _ANYTHING},
        "code": CODE,
        "versions": VERSIONS,
        "device": _TEXT,
        "started": _TEXT,
        "finished": _TEXT,
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
        "code": CODE,
        "versions": VERSIONS,
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
            },
            {"samples_scored": _COUNT, "optimizer_steps": _COUNT},  # older records have none
        ),
        "metrics": {"type": "array", "items": METRIC},
        "evaluation_skipped": SKIPPED,
        "pruning_truth": {"type": "array", "items": TRUTH},
    },
    # what the method is; a hash of the final weights; what each task took; and what was measured after the run had
    # its record
    {
        "family": {"enum": ["static", "dynamic"]},
        "weights": _TEXT,
        "evaluation_seconds": {
            "type": "array",
            "items": _object({"task": _TEXT, "options": _ANYTHING, "seconds": _NOT_NEGATIVE}),
        },
        "later_evaluations": {"type": "array", "items": LATER_EVALUATION},
    },
)

EVALUATION = _object(
    {
        "schema": {"const": SCHEMA_VERSION},
        "kind": {"const": "evaluation"},
        "model": _TEXT,
        "pretrained": _TEXT,
        "weights": _TEXT,
        "code": CODE,
        "versions": VERSIONS,
        "device": _TEXT,
        "started": _TEXT,
        "finished": _TEXT,
        "evaluate": {"type": "array", "items": _ANYTHING},
        "metrics": {"type": "array", "items": METRIC},
        "evaluation_skipped": SKIPPED,
    },
    # of a published model how it was built: activations, preprocessing, tokenizer (older ones tell nothing); of a
    # control what it is, framework, model and seed being those of the untrained model
    {
        "encoder": _ANYTHING,
        "control": _object(
            {"kind": {"enum": list(CONTROL_KINDS)}},
            {"framework": _TEXT, "model": _ANYTHING, "seed": _COUNT},
        ),
    },
)
_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
_EVALUATION_VALIDATOR = jsonschema.Draft202012Validator(EVALUATION)
_FITS = {id(_VALIDATOR): quick_check(SCHEMA), id(_EVALUATION_VALIDATOR): quick_check(EVALUATION)}
"""jsonschema takes milliseconds a record, this a tenth of one."""
_VALID: set[tuple[str, int, int, int]] = set()
"""Files that this process has validated: a status that is watched reads each record again and again."""


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Validate, then write atomically with sorted keys. Raises RecordError if it does not fit the schema."""
    validate(record, path)
    _write(path, record)


def read_record(path: Path) -> dict[str, Any]:
    """Read and validate. Raises FileNotFoundError, or RecordError for anything but a record of this schema."""
    return _read(path, _VALIDATOR)


def write_evaluation(path: Path, evaluation: dict[str, Any]) -> None:
    """As ``write_record``, of a model that this suite did not train."""
    validate(evaluation, path, _EVALUATION_VALIDATOR)
    _write(path, evaluation)


def read_evaluation(path: Path) -> dict[str, Any]:
    """As ``read_record``, of what ``write_evaluation`` wrote."""
    return _read(path, _EVALUATION_VALIDATOR)


def validate(record: Any, path: Path, validator: jsonschema.Draft202012Validator = _VALIDATOR) -> None:
    """Raise RecordError naming ``path`` and the key unless ``record`` fits the schema."""
    if _FITS[id(validator)](record):
        return
    if isinstance(record, dict) and record.get("schema") != SCHEMA_VERSION:
        found = record.get("schema", "none")
        raise RecordError(
            f"{path}: record of schema {found}; this version reads schema {SCHEMA_VERSION}:"
            " use the version that wrote it"
        )
    error = jsonschema.exceptions.best_match(validator.iter_errors(record))
    if error is not None:
        raise RecordError(f"{path}: {error.json_path.removeprefix('$.')}: {error.message}")


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(sealed(content), sort_keys=True, indent=1, allow_nan=False) + "\n")


def _read(path: Path, validator: jsonschema.Draft202012Validator) -> dict[str, Any]:
    try:
        stat = path.stat()
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except ValueError as error:  # also what is not UTF-8
        raise RecordError(f"{path}: not JSON ({error}); move it away to have the run evaluated again") from error
    record = {key: value for key, value in found.items() if key != SEAL} if isinstance(found, dict) else found
    version = (str(path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if version not in _VALID:
        validate(record, path, validator)
        _check_seal(found, path)
        _VALID.add(version)
    assert isinstance(record, dict)
    return record


def _check_seal(found: dict[str, Any], path: Path) -> None:
    try:
        unsealed(found)
    except ValueError as error:
        raise RecordError(
            f"{path}: {error}; move it away to have the run evaluated again, or take out its line {SEAL} if it was"
            " you who changed it"
        ) from error


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
    items: np.ndarray | None = field(default=None, compare=False, repr=False)
    """What was found item by item, [n]: hits (bool), ranks or labels (integers), or losses (float). In no row."""

    def row(self) -> dict[str, Any]:
        told = {key: value for key, value in vars(self).items() if key != "items"}
        return {**told, "ci95": list(self.ci95)}
