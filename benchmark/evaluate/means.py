"""What an evaluation has to work with besides its model: processes to load images, a place to note how far it is.

None of it changes a number. Tasks are given it as an attribute of their encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import dist, signals


@dataclass(frozen=True, kw_only=True)
class Means:
    """By default: this process alone, and nothing is kept."""

    num_workers: int = 0
    """Processes of each rank that decode images, where a task does not say how many."""
    folder: Path | None = None
    """Where training that is under way is kept."""
    saved: Callable[[], None] = lambda: None
    """Called on rank 0 when something is on disk that another attempt goes on from."""


def means_of(encoder: Any) -> Means:
    """The encoder's ``means``; the default for an encoder that has none."""
    found: Means = getattr(encoder, "means", None) or Means()
    return found


def stop_together() -> None:
    """Raise signals.Stopped on all ranks if one of them was asked to stop."""
    if how := max(dist.gather_objects(signals.asked())):
        raise signals.Stopped(how)
