"""What a run's method is, read from its configuration: family, SCAN's variants, what a coreset is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from analysis.read.results import Run
from analysis.read.setting import is_published
from benchmark.config.published import SCAN as SCAN_OF_ARM

FULL = "full"
SCAN = "scan"
CONTROL = "scan_random"
"""SCAN's schedule with random samples."""
ORACLE = "clean_oracle"
"""It sees planted truth: no method."""

DYNAMIC = frozenset(
    (
        *("scan", "scan_random", "random_dynamic", "infobatch", "seta", "dissect", "small_loss", "big_loss"),
        *("rs2", "repb", "order_dp", "worse_than_chance"),
    )
)
"""Methods that choose anew while the model trains, for records from before a record told its ``family``; a test
holds this to what ``baselines/`` says."""

PUBLISHED_SHARE = {"clip": 0.30, "moco": 0.35}
SCAN_OPTIONS: dict[str, Any] = {
    "cycle": 3,
    "warmup_threshold": 0.3,
    "overlap": 0.9,
    "mode": "both",
    "schedule": "cosine",
    "combine": "top_up",
    "full_last_epochs": 0,
    "redundant_below": None,
    "ill_matched_above": None,
    "rank_within": "global",
    "score": "sample",
    "score_decay": 0.9,
    "window_epochs": 5,
    "reference": None,
}
"""The published settings beside the shares; a test holds this to the defaults of ``baselines/scan.py``."""
ABOUT = {
    "which data": ("mode", "redundant_share", "ill_matched_share"),
    "when": ("cycle", "warmup_threshold", "schedule", "full_last_epochs"),
    "what is ranked": ("score", "score_decay", "window_epochs", "reference"),
    "how directions make one set": ("combine", "overlap", "rank_within", "redundant_below", "ill_matched_above"),
}


def pruner_of(run: Run) -> tuple[str, Mapping[str, Any]]:
    """Name and options; of a record whose configuration does not say, the method's label and no option."""
    pruner = run.record["config"].get("pruner")
    if isinstance(pruner, Mapping) and isinstance(pruner.get("name"), str):
        options = pruner.get("options")
        return pruner["name"], options if isinstance(options, Mapping) else {}
    return run.record["method"], {}


def shorter(epochs: int) -> str:
    """The label of full data trained for fewer epochs, in a table of longer runs."""
    return f"{FULL}, {epochs} epochs"


def is_shorter(method: str) -> bool:
    return method.startswith(f"{FULL}, ")


def is_planted(run: Run) -> bool:
    """Whether faults were put into the run's pool on purpose: a question of its own, no claim's setting."""
    pool = run.record["config"].get("pool")
    options = pool.get("options") if isinstance(pool, Mapping) else None
    return isinstance(options, Mapping) and bool(options.get("plant"))


def is_static(run: Run) -> bool:
    """By its record, or by name for one from before records told; a control that sees the truth counts as none."""
    name = pruner_of(run)[0]
    family = run.record.get("family") or ("dynamic" if name in DYNAMIC else "static")
    return family == "static" and name not in (FULL, ORACLE)


def changed_options(run: Run) -> dict[str, Any]:
    """Of a run of SCAN or its control, the options that are not the published ones; empty for other methods."""
    name, options = pruner_of(run)
    if name not in (SCAN, CONTROL):
        return {}
    framework = run.record["framework"]
    published = published_options(framework)
    if is_published(framework, run.training):
        published |= SCAN_OF_ARM[framework]
    return {key: value for key, value in options.items() if key in published and value != published[key]}


def published_options(framework: str) -> dict[str, Any]:
    """SCAN's options in the published runs."""
    share = PUBLISHED_SHARE[framework]
    return {"redundant_share": share, "ill_matched_share": share, **SCAN_OPTIONS}


def is_published_scan(run: Run) -> bool:
    return pruner_of(run)[0] == SCAN and not changed_options(run)


def is_variant(run: Run) -> bool:
    """SCAN or its control with other options than the published ones."""
    return bool(changed_options(run))


def subject_of(changed: Mapping[str, Any]) -> str:
    """What a variant asks about."""
    if not changed:
        return "which data"
    if set(changed) == {"redundant_share", "ill_matched_share"}:
        return "how much"
    subjects = [subject for subject, options in ABOUT.items() if set(options) & set(changed)]
    return subjects[0] if len(subjects) == 1 else "several options"


def coreset_source(run: Run, by_name: Mapping[str, Run]) -> str:
    """What a coreset was made of, such as ``scan`` or ``scan × 2`` (an ensemble); empty for other methods.

    ``by_name`` holds runs by their names; one that is not among them is known by its name alone.
    """
    name, options = pruner_of(run)
    if name != "coreset":
        return ""
    sources = options.get("runs") or []
    if not isinstance(sources, list) or not sources:
        return "files"
    made_by = []
    for source in map(str, sources):
        known = by_name.get(source)
        method = pruner_of(known)[0] if known else _method_in(source)
        model = known.record["model"] if known else ""
        made_by.append(f"{method} of {model}" if model and model != run.record["model"] else method)
    counts = {one: made_by.count(one) for one in sorted(made_by)}
    return " + ".join(f"{one} × {count}" if count > 1 else one for one, count in counts.items())


def is_coreset_of(method: str, run: Run, by_name: Mapping[str, Run]) -> bool:
    source = coreset_source(run, by_name)
    return bool(source) and all(
        re.fullmatch(rf"{method}( of .*| × \d+)*", part) is not None for part in source.split(" + ")
    )


def without_budget(run: Run, by_name: Mapping[str, Run]) -> tuple[str, str]:
    """Name and the options as JSON, without how much is kept: what a static method is at any budget."""
    name, options = pruner_of(run)
    kept = {k: v for k, v in options.items() if k not in ("keep_fraction", "runs", "files")}
    source = coreset_source(run, by_name)
    if source:
        kept = {"made of": source}
    return name, json.dumps(kept, sort_keys=True, default=str)


def _method_in(run_name: str) -> str:
    """The method in the name of a run that is not here: ``clip-RN50-cc3m_plus-scan-s0-3f9a1c``."""
    found = re.search(r"-([a-z0-9_]+)(-published)?-s\d+-[0-9a-f]+$", run_name)
    return found[1] if found else "unknown"


BUDGETS = (
    *("keep_fraction", "prune_ratio", "redundant_share", "ill_matched_share", "select_rate"),
    *("rho", "explore", "exploit"),
)
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
