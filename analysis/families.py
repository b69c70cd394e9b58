"""Methods that differ in nothing but their budget form a family: a line against the pruning rate."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from analysis.load import Run
from analysis.methods import FULL, is_shorter

BUDGETS = ("keep_fraction", "prune_ratio", "redundant_share", "ill_matched_share", "select_rate")
"""Options of methods that say how much is pruned."""


def family_of(record: dict[str, Any]) -> str:
    """The method's name without the budgets among its options: ``density(keep_fraction=0.3)`` is ``density``.

    Full data trained for less is of the family of full data.
    """
    if is_shorter(record["method"]):
        return FULL
    pruner = record["config"].get("pruner") or {}
    options = pruner.get("options") if isinstance(pruner, dict) else None
    name = str(record["method"])
    for option in [
        key for key in BUDGETS if isinstance(options, dict) and isinstance(options.get(key), int | float)
    ]:
        name = re.sub(rf"(?<=[(, ]){option}=[^,()]*(, )?", "", name)
    return name.replace(", )", ")").replace("()", "")


def without_budget_names(method: str) -> str:
    """Shorter, where room is scarce: ``scan(0.35, 0.35)``."""
    return re.sub(rf"(?<=[(, ])({'|'.join(BUDGETS)})=", "", method)


def families(runs: Iterable[Run]) -> dict[str, str]:
    """method -> family."""
    return {run.record["method"]: family_of(run.record) for run in runs}
