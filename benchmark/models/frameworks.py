"""The two frameworks under their names: how a model's options are checked and how its objective is made."""

from __future__ import annotations

from benchmark.config.run import Choice
from benchmark.models.clip import objective as clip
from benchmark.models.moco import objective as moco
from benchmark.models.objective import Objective
from benchmark.options import ConfigError, did_you_mean

FRAMEWORKS = {"clip": clip, "moco": moco}


def resolve_model(framework: str, choice: Choice, where: str) -> Choice:
    """Check a model without building it. Raises ConfigError that opens with ``where``."""
    if framework not in FRAMEWORKS:
        raise ConfigError(
            f"{where}.framework: unknown framework '{framework}'{did_you_mean(framework, FRAMEWORKS)}"
            f" (known: {', '.join(FRAMEWORKS)})"
        )
    return FRAMEWORKS[framework].resolve_model(choice, f"{where}.model")


def has_text(framework: str) -> bool:
    return framework == "clip"


def make_objective(framework: str, choice: Choice, seed: int) -> Objective:
    """Build a model's objective, initialised from ``seed`` alone."""
    return FRAMEWORKS[framework].make(choice, seed)
