"""Models: what is trained, and what a trained one is measured through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.models.encoder import Encoder, Tower

if TYPE_CHECKING:
    from benchmark.models.objective import Objective

__all__ = ["Encoder", "Objective", "Tower"]


def __getattr__(name: str) -> Any:
    """Loaded when asked for: planning checks a model's options without torch."""
    if name != "Objective":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from benchmark.models.objective import Objective

    return Objective
