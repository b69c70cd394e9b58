"""Options read strictly: a mapping becomes a dataclass, or one error with the path and the nearest name."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

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


RUNS = {"runs": True}
"""Field metadata of an option that names other runs of the sweep. A sweep file selects them by what they are,
``{pruner: scan}``; the planner puts their names in its place and has this run wait for them."""


class ConfigError(ValueError):
    """A mistake in a sweep file or an option; the message opens with where it stands."""


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
        built = copy.deepcopy(_built(cls, json.dumps(options)))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}.{error.full_key}: {str(error).splitlines()[0]}") from error
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    assert isinstance(built, cls)
    return built


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
    except (yaml.YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(node, dict):
        raise ConfigError(f"{path}: expected 'key: value' at the top")
    return {str(key): value for key, value in node.items()}


def plain(value: Any) -> Any:
    """Tuples become lists, so that YAML and JSON hold what was asked for and nothing of Python's."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value
