"""A run's label and identity: what its options say of it, and a hash over those that change numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from benchmark.options import LATER_OPTION, plain


def label_of(name: str, built: Any, shown_as: Mapping[str, str] | None = None) -> str:
    """The name with the options that differ from their defaults: ``scan(mode=redundant)``.

    An option whose default changed what runs do (``later_option``) and a ``revision`` are told as well.
    ``shown_as`` gives words for options whose value is none for people.
    """
    shown = []
    for f in dataclasses.fields(built):
        if not f.init or f.metadata.get("identity", True) is False:
            continue
        value = getattr(built, f.name)
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if value != default or "before" in f.metadata:
            shown.append(f"{f.name}={(shown_as or {}).get(f.name, value)}")
    if revision := getattr(built, "revision", None):
        shown.append(f"{revision=}")
    return f"{name}({', '.join(shown)})" if shown else name


def identity_of(parts: Mapping[str, Any]) -> str:
    """Six hexadecimal digits over built dataclasses and plain values, without fields marked NOT_IDENTITY."""
    text = json.dumps({key: _identity(value) for key, value in parts.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _identity(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = [f for f in dataclasses.fields(value) if f.init and _counts(f, getattr(value, f.name))]
        revision = getattr(value, "revision", None)
        told = {"revision": revision} if revision else {}
        return {f.name: _identity(getattr(value, f.name)) for f in kept} | told
    return plain(value)


def _counts(f: dataclasses.Field[Any], value: Any) -> bool:
    """Whether an option enters the identity with this value."""
    rule = f.metadata.get("identity", True)
    return not is_later_default(f, value) if rule == LATER_OPTION["identity"] else bool(rule)


def is_later_default(f: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a field is a ``LATER_OPTION`` that stands at its default, a ``later_option`` at what was before."""
    is_later = f.metadata.get("identity") == LATER_OPTION["identity"]
    return is_later and bool(value == f.metadata.get("before", f.default))
