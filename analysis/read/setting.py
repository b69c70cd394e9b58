"""What two runs must share to stand in one table: the training and model options that change numbers."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.config import published
from benchmark.config.run import TrainConfig
from benchmark.options import LATER_OPTION, plain

_MACHINE_ONLY = {f.name for f in dataclasses.fields(TrainConfig) if not f.metadata.get("identity", True)}
_DEFAULTS = {f.name: f.default for f in dataclasses.fields(TrainConfig)}
_LATER = {f.name: f.default for f in dataclasses.fields(TrainConfig) if f.metadata == LATER_OPTION}


_DEFAULTS = {f.name: f.default for f in dataclasses.fields(TrainConfig) if f.default is not dataclasses.MISSING}


def train_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """How a run was trained; an option that its configuration does not know yet stands at its default."""
    return {**_DEFAULTS, **_mapping(config, "train")}


def training_of(config: Mapping[str, Any]) -> str:
    """Canonical JSON of a run's model and training options, without those that cannot change a number.

    Later options at their defaults are left out too: records from before they came do not have them.
    """
    told = {k: v for k, v in _mapping(config, "train").items() if k not in _LATER or v != _LATER[k]}
    train = {f"train.{k}": v for k, v in told.items() if k not in _MACHINE_ONLY}
    model = {f"model.{k}": v for k, v in _mapping(_mapping(config, "model"), "options").items()}
    return json.dumps(plain({**train, **model}), sort_keys=True, default=str)


@functools.cache
def is_published(framework: str, training: str) -> bool:
    """Whether options as ``training_of`` tells them are those of the published arm."""
    options = json.loads(training)
    return published.is_published(framework, {k.removeprefix("train."): v for k, v in options.items()})


@functools.cache
def with_arm(framework: str, training: str) -> str:
    """The same options with ``arm`` in place of those that make it: tables are told apart by one word."""
    options = json.loads(training)
    if not is_published(framework, training):
        return json.dumps({**options, "arm": "ours"}, sort_keys=True)
    for name in published.TRAIN[framework]:
        if name in _LATER:
            del options[f"train.{name}"]
        else:
            options[f"train.{name}"] = _DEFAULTS[name]
    return json.dumps({**options, "arm": published.WORD}, sort_keys=True)


@functools.cache
def length_of(training: str) -> tuple[int, str]:
    """The epochs that ``training_of`` tells, 0 where it tells none, and all other options."""
    options = json.loads(training)
    epochs = options.pop("train.epochs", 0)
    return epochs if isinstance(epochs, int) else 0, json.dumps(options, sort_keys=True)


@functools.cache
def evaluation_of(evaluate: str, task: str, dataset: str) -> str:
    """Canonical JSON of the options of the one evaluation that made a metric; ``{}`` where it cannot be told.

    The data sets it was asked for are no such option. ``evaluate`` is the JSON of a configuration's ``evaluate``:
    thousands of runs share a few.
    """
    entries = [e for e in json.loads(evaluate) or [] if isinstance(e, Mapping) and e.get("name") == task]
    if len(entries) > 1:
        entries = [e for e in entries if measures(_mapping(e, "options"), dataset)]
    told = [{k: v for k, v in _mapping(e, "options").items() if k not in ("dataset", "test_on")} for e in entries]
    found = {json.dumps(options, sort_keys=True) for options in told}
    return found.pop() if len(found) == 1 else "{}"


def measures(options: Mapping[str, Any], dataset: str) -> bool:
    """Whether an evaluation with these options measures a metric's data set: its own, or one of ``test_on``."""
    further = options.get("test_on")
    asked = [options.get("dataset"), *(further if isinstance(further, list) else [])]
    return any(is_of(one, dataset) for one in asked)


def is_of(asked: Any, dataset: str) -> bool:
    """Whether a metric's data set is the one asked for: ``emoji-category`` is of ``{emoji: {…}}``."""
    return any(dataset == name or dataset.startswith(f"{name}-") for name in _names(asked))


def differing(settings: Sequence[str]) -> list[str]:
    """For each of several JSON mappings, the options in which it differs from any other: ``train.epochs = 2``."""
    read = [json.loads(text) for text in settings]
    keys = sorted({key for one in read for key in one})
    told = [key for key in keys if len({json.dumps(one.get(key), sort_keys=True) for one in read}) > 1]
    return [", ".join(f"{key} = {one.get(key, 'absent')}" for key in told) for one in read]


def _mapping(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = node.get(key)
    return value if isinstance(value, Mapping) else {}


def _names(dataset: Any) -> Sequence[str]:
    return list(dataset) if isinstance(dataset, Mapping) else [str(dataset)]
