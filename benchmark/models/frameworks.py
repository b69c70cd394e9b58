"""The two frameworks under their names: how a model's options are checked and how its objective is made.

A framework's networks are loaded when one is built: open_clip takes seconds to import, and planning needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.config.run import Choice
from benchmark.models.clip import options as clip
from benchmark.models.moco import options as moco
from benchmark.options import ConfigError, did_you_mean

if TYPE_CHECKING:
    from benchmark.models.objective import Objective

OPTIONS = {"clip": clip, "moco": moco}


def resolve_model(framework: str, choice: Choice, where: str) -> Choice:
    """Check a model without building it. Raises ConfigError that opens with ``where``."""
    if framework not in OPTIONS:
        raise ConfigError(
            f"{where}.framework: unknown framework '{framework}'{did_you_mean(framework, OPTIONS)}"
            f" (known: {', '.join(OPTIONS)})"
        )
    return OPTIONS[framework].resolve_model(choice, f"{where}.model")


def example_bytes(framework: str, choice: Choice) -> int:
    """Bytes that a loader's worker hands over for one training example."""
    return OPTIONS[framework].example_bytes(choice)


def has_text(framework: str) -> bool:
    return framework == "clip"


def make_objective(framework: str, choice: Choice, seed: int) -> Objective:
    """Build a model's objective, initialised from ``seed`` alone."""
    if framework == "clip":
        from benchmark.models.clip.objective import make as make_clip

        return make_clip(choice, seed)
    from benchmark.models.moco.objective import make as make_moco

    return make_moco(choice, seed)
