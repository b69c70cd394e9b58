"""The two frameworks under their names: how a model's options are checked and how its objective is made.

A framework is loaded when it is asked for: open_clip takes seconds to import, and a sweep may need but one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmark.config.run import Choice
from benchmark.models.objective import Objective
from benchmark.options import ConfigError, did_you_mean


def _clip() -> Any:
    from benchmark.models.clip import objective

    return objective


def _moco() -> Any:
    from benchmark.models.moco import objective

    return objective


FRAMEWORKS: dict[str, Callable[[], Any]] = {"clip": _clip, "moco": _moco}
"""Name -> its module, with ``resolve_model`` and ``make``."""


def resolve_model(framework: str, choice: Choice, where: str) -> Choice:
    """Check a model without building it. Raises ConfigError that opens with ``where``."""
    if framework not in FRAMEWORKS:
        raise ConfigError(
            f"{where}.framework: unknown framework '{framework}'{did_you_mean(framework, FRAMEWORKS)}"
            f" (known: {', '.join(FRAMEWORKS)})"
        )
    resolved: Choice = FRAMEWORKS[framework]().resolve_model(choice, f"{where}.model")
    return resolved


def has_text(framework: str) -> bool:
    return framework == "clip"


def make_objective(framework: str, choice: Choice, seed: int) -> Objective:
    """Build a model's objective, initialised from ``seed`` alone."""
    objective: Objective = FRAMEWORKS[framework]().make(choice, seed)
    return objective
