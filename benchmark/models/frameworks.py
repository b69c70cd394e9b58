"""The two frameworks under their names: how a model's options are checked and how its objective is made.

A framework's networks are loaded when one is built: open_clip takes seconds to import, and planning needs none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmark.config.run import Choice
from benchmark.options import ConfigError, did_you_mean

if TYPE_CHECKING:
    from benchmark.models.objective import Objective

FRAMEWORKS = {"clip": "benchmark.models.clip", "moco": "benchmark.models.moco"}
"""Name -> its folder, which has ``options`` with ``resolve_model`` and ``objective`` with ``make``."""


def resolve_model(framework: str, choice: Choice, where: str) -> Choice:
    """Check a model without building it. Raises ConfigError that opens with ``where``."""
    if framework not in FRAMEWORKS:
        raise ConfigError(
            f"{where}.framework: unknown framework '{framework}'{did_you_mean(framework, FRAMEWORKS)}"
            f" (known: {', '.join(FRAMEWORKS)})"
        )
    module = import_module(f"{FRAMEWORKS[framework]}.options")
    resolved: Choice = module.resolve_model(choice, f"{where}.model")
    return resolved


def has_text(framework: str) -> bool:
    return framework == "clip"


def make_objective(framework: str, choice: Choice, seed: int) -> Objective:
    """Build a model's objective, initialised from ``seed`` alone."""
    objective: Objective = import_module(f"{FRAMEWORKS[framework]}.objective").make(choice, seed)
    return objective
