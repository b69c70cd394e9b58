"""Names of protocols: the base, what differs from its defaults, the version."""

from __future__ import annotations

from collections.abc import Mapping


def named(base: str, version: int, changed: Mapping[str, tuple[object, object]] | None = None) -> str:
    """``knn.cosine_k20_t007.v1``; each option whose value is not its default is told: ``..._epochs2.v1``.

    ``changed`` maps an option to its value and its default.
    """
    told = [f"_{name}{_short(value)}" for name, (value, default) in (changed or {}).items() if value != default]
    return f"{base}{''.join(told)}.v{version}"


def _short(value: object) -> str:
    if isinstance(value, bool):
        return "-on" if value else "-off"
    return f"{value:g}" if isinstance(value, int | float) else f"-{value}"
