"""A job: one run, from wherever it stands to its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.job.process import run, start

__all__ = ["run", "start"]


def __getattr__(name: str) -> Any:
    """Loaded when asked for: a job's first steps, and the check of its code, come before torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from benchmark.job import process

    return getattr(process, name)
