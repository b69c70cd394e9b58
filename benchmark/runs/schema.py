"""JSON schema -> a fast "does it fit?", for reading thousands of records.

A quick check may only be stricter than jsonschema: what it refuses, jsonschema judges and puts into words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Check = Callable[[Any], bool]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "object": (dict,),
    "array": (list,),
}
"""By exact type, so that True is no integer."""


def quick_check(schema: Mapping[str, Any]) -> Check:
    """True only for what fits ``schema``. Raises ValueError for a keyword it does not know."""
    keywords = dict(schema)
    types: frozenset[type] | None = None
    if "type" in keywords:
        names = keywords.pop("type")
        types = frozenset(one for name in ([names] if isinstance(names, str) else names) for one in _TYPES[name])
    checks: list[Check] = []
    if "const" in keywords:
        checks.append(_one_of([keywords.pop("const")]))
    if "enum" in keywords:
        checks.append(_one_of(keywords.pop("enum")))
    low, high = keywords.pop("minimum", None), keywords.pop("maximum", None)
    if low is not None or high is not None:
        checks.append(_within(-math.inf if low is None else low, math.inf if high is None else high))
    if keywords.keys() & {"items", "minItems", "maxItems"}:
        item = quick_check(keywords.pop("items", {}))
        checks.append(_array(item, keywords.pop("minItems", 0), keywords.pop("maxItems", math.inf)))
    if keywords.keys() & {"properties", "required", "additionalProperties"}:
        named = {name: quick_check(one) for name, one in keywords.pop("properties", {}).items()}
        checks.append(_object(named, keywords.pop("required", ()), keywords.pop("additionalProperties", True)))
    if keywords.keys() >= {"if", "else"}:
        condition, other = quick_check(keywords.pop("if")), quick_check(keywords.pop("else"))
        checks.append(lambda value: condition(value) or other(value))
    if keywords:
        raise ValueError(f"no quick check of {', '.join(sorted(keywords))}")
    return _all(types, checks)


def _all(types: frozenset[type] | None, checks: Sequence[Check]) -> Check:
    if len(checks) == 1:
        only = checks[0]
        return only if types is None else lambda value: type(value) in types and only(value)
    if not checks:
        return lambda value: types is None or type(value) in types
    return lambda value: (types is None or type(value) in types) and all(check(value) for check in checks)


def _one_of(allowed: Sequence[Any]) -> Check:
    kinds = frozenset((type(one), one) for one in allowed)  # True is not 1
    return lambda value: type(value) in (str, int) and (type(value), value) in kinds


def _within(low: float, high: float) -> Check:
    return lambda value: (type(value) is not float and type(value) is not int) or low <= value <= high


def _array(item: Check, least: int, most: float) -> Check:
    return lambda value: type(value) is not list or (least <= len(value) <= most and all(map(item, value)))


def _object(named: Mapping[str, Check], required: Sequence[str], others: bool | Mapping[str, Any]) -> Check:
    must = frozenset(required)
    other = quick_check(others) if isinstance(others, Mapping) else (lambda value: bool(others))
    if not named and others is True and not must:
        return lambda value: True

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return True
        if not must <= value.keys():
            return False
        for key, one in value.items():  # noqa: SIM110 (a generator takes twice the time)
            if not named.get(key, other)(one):
                return False
        return True

    return check
