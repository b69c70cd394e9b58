"""Options read strictly: a mapping becomes a dataclass, or one error with the path and the nearest name."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import difflib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

T = TypeVar("T")

NOT_IDENTITY = {"identity": False}
"""Field metadata of an option that cannot change a result: a path, a count of loader workers."""

LATER_OPTION = {"identity": "unless default"}
"""Field metadata of an option that came later and whose default is what runs did before it: older runs keep
their names, since it enters a run's identity only where it differs from its default."""


def later_option(before: Any) -> dict[str, Any]:
    """As ``LATER_OPTION`` for an option whose default is not what runs did before it, which is ``before``.

    The default enters the identity, so nothing that changed stands under an old name. Labels always tell the
    value: a label that is silent is that of a run from before.
    """
    return {**LATER_OPTION, "before": before}


FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.?[0-9]*)([eE][-+]?[0-9]+)?")
"""A number as YAML 1.2 writes it."""

RUNS = {"runs": True}
"""Field metadata of an option that names other runs of the sweep. A sweep file selects them by what they are,
``{pruner: scan}``; the planner puts their names in its place and has this run wait for them."""


class ConfigError(ValueError):
    """A mistake in a sweep file or an option; the message opens with where it stands."""


def read_by(reader: Callable[[str], Any]) -> dict[str, Any]:
    """Field metadata of an option that cannot change a result and may be written in words, which ``reader`` turns
    into its value. The reader raises ValueError for others."""
    return {**NOT_IDENTITY, "reader": reader}


class Parser(argparse.ArgumentParser):
    """Arguments of a command. For one that is unknown the nearest is named."""

    def error(self, message: str) -> NoReturn:
        known = [*self._option_string_actions, *(name for a in self._actions for name in a.choices or ())]
        wrong = re.search(r"(?:unrecognized arguments: |invalid choice: ')([^\s'=]+)", message)
        super().error(message + (did_you_mean(wrong[1], map(str, known)) if wrong else ""))


def build(cls: type[T], options: Mapping[str, Any], where: str) -> T:
    """Construct a dataclass from options. Raises ConfigError that opens with ``where`` and the key."""
    must_be_mapping(options, where)
    assert dataclasses.is_dataclass(cls)
    fields = [f for f in dataclasses.fields(cls) if f.init]
    check_keys(options, [f.name for f in fields], where, what="option")
    for f in fields:
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and f.name not in options:
            raise ConfigError(f"{where}.{f.name}: missing; {cls.__name__} has no default for it")
    try:
        options = {f.name: _read(f, options[f.name]) for f in fields if f.name in options}
        built = copy.deepcopy(_built(cls, json.dumps(options)))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}.{error.full_key}: {str(error).splitlines()[0]}") from error
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    assert isinstance(built, cls)
    return built


def combinations(
    cls: type[object], options: Mapping[str, Any], where: str
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Every combination of the values that options of a dataclass list, and the names of those that list any.

    Where an option may be a list, a list is its value. Raises ConfigError for an empty list.
    """
    assert dataclasses.is_dataclass(cls)
    takes_one = [f.name for f in dataclasses.fields(cls) if not re.search("list|tuple|Sequence|Any", str(f.type))]
    varied = {key: value for key, value in options.items() if isinstance(value, list) and key in takes_one}
    for key, values in varied.items():
        if not values:
            raise ConfigError(f"{where}.{key}: an empty list; give one value or several")
    found = itertools.product(*varied.values())
    return [{**options, **dict(zip(varied, one, strict=True))} for one in found], tuple(varied)


def _read(f: dataclasses.Field[Any], value: Any) -> Any:
    """A value as the field takes it; ``as_written`` leaves texts that only the field's type makes numbers."""
    if "reader" in f.metadata and isinstance(value, str):
        try:
            return f.metadata["reader"](value)
        except ValueError as error:
            raise ValueError(f"{f.name}: {error}") from None
    if isinstance(value, bool) and f.type in ("str", "str | None"):
        raise ValueError(f"{f.name}: expected text, got {str(value).lower()}; in quotes it is a text")
    return _numbers(value) if f.type == "Any" else value


def _numbers(value: Any) -> Any:
    """Where a field has no type, texts that YAML calls numbers are numbers."""
    if isinstance(value, Mapping):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    is_float = isinstance(value, str) and FLOAT.fullmatch(value) and not value.lstrip("+-").isdigit()
    return float(value) if is_float else value


@lru_cache(maxsize=4096)
def _built(cls: type[T], options: str) -> T:
    """Remembered: a sweep of 1,000 runs asks for the same few methods, pools and tasks again and again."""
    built = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), _literal(json.loads(options))))
    assert isinstance(built, cls)
    return built


def _literal(value: Any) -> Any:
    """Values as they are: references were resolved when their file was read, and ``${HOME}`` is the shell's."""
    if isinstance(value, Mapping):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda found: 2 * found.group(1) + "\\${", value)
    return value


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?``, or nothing when no known name is near."""
    near = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def check_keys(
    node: Mapping[str, Any], known: Sequence[str], where: str, what: str = "key", all_required: bool = False
) -> None:
    """Raise ConfigError for a key that is not known, with the nearest that is, or for one that is missing."""
    dot = " " if where.endswith(":") else "."
    for key in node:
        if key not in known:
            near = did_you_mean(str(key), known) or f" (known: {', '.join(known)})"
            raise ConfigError(f"{where}{dot}{key}: unknown {what}{near}")
    missing = [key for key in known if key not in node]
    if all_required and missing:
        raise ConfigError(f"{where}: missing {', '.join(missing)}")


def check_option(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(
            f"{name}: unknown value '{value}'{did_you_mean(value, allowed)} (known: {', '.join(allowed)})"
        )


def require(condition: bool, name: str, rule: str, value: object) -> None:
    if not condition:
        raise ValueError(f"{name} must be {rule}, got {value}")


def must_be_mapping(node: Any, where: str) -> None:
    if not isinstance(node, Mapping):
        raise ConfigError(f"{where}: expected options as 'key: value', got {node!r}")


def load_yaml(path: Path, parse: Callable[[str], Any] = yaml.safe_load) -> dict[str, Any]:
    """The mapping a YAML file holds. Raises ConfigError that names the file."""
    try:
        node = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(node, dict):
        raise ConfigError(f"{path}: expected 'key: value' at the top")
    return {str(key): value for key, value in node.items()}


def as_written(text: str) -> Any:
    """What YAML holds, read as people write it.

    true, false and null are themselves (no ``on``, no ``yes``), and a number is one only where it would be written
    in just this way: ``24:00:00``, ``0600``, ``1E234`` and ``12.10`` stay texts, which an option that is a number
    still takes for one, and one that is a text takes as it stands. Raises yaml.YAMLError, for a duplicate key too.
    """
    return yaml.load(text, _AsWritten)


def value_in(word: str, text: str) -> Any:
    """What ``text`` says, a part of ``word`` on the command line. Raises ConfigError that names the word."""
    try:
        return as_written(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"'{word}': cannot be read as YAML: {' '.join(str(error).split())}") from error


class _AsWritten(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        known = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in known:
                raise yaml.MarkedYAMLError(problem=f"found duplicate key {key.value}", problem_mark=key.start_mark)
            known.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node

    def construct_yaml_float(self, node: Any) -> Any:
        value = super().construct_yaml_float(node)
        return value if str(value) == node.value else node.value


_AsWritten.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"0|-?[1-9][0-9]*", list("-0123456789")),
    ("float", FLOAT.pattern, list("-+.0123456789")),
    ("merge", "<<", ["<"]),
):
    _AsWritten.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)
_AsWritten.add_constructor("tag:yaml.org,2002:float", _AsWritten.construct_yaml_float)


def overridden(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set ``grid[0].train.lr`` and the like in place; mappings on the way are made where there are none.

    Raises ConfigError for a key that is not written so, and for a place that a list does not have.
    """
    if not re.fullmatch(r"[^.\[\]]+((\.[^.\[\]]+)|(\[\d+\]))*", key):
        raise ConfigError(f"'{key}': expected names with dots between: train.epochs, grid[0].train.epochs")
    steps = [int(number) if number else name for number, name in re.findall(r"\[(\d+)\]|([^.\[\]]+)", key)]
    node: Any = tree
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int) and not (isinstance(node, list) and step < len(node)):
            count = f"it has {len(node)}, from [0]" if isinstance(node, list) else "it is no list"
            raise ConfigError(f"'{key}': there is no [{step}]: {count}")
        if isinstance(step, str) and not isinstance(node, dict):
            raise ConfigError(f"'{key}': '{step}' is looked for in a list; say which of it, [0] and so on")
        if after is None:
            node[step] = value
        elif isinstance(step, str) and not isinstance(node.get(step), dict | list):
            node[step] = {}
        node = node[step]


def plain(value: Any) -> Any:
    """Tuples become lists, so that YAML and JSON hold what was asked for and nothing of Python's."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value
