"""``claims.yaml``, read strictly: a wrong or missing key is an error with its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.claims.settings import PaperConfiguration
from benchmark.config.run import TrainConfig
from benchmark.options import ConfigError, check_keys, load_yaml

CLAIMS_FILE = Path(__file__).parents[1] / "claims.yaml"

TESTS = ("share", "loses_less", "loses_less_in_each", "above_each", "coresets_above_each", "overhead")
KINDS = ("reproduction", "extension")
_KEYS = ["id", "kind", "claim", "short", "where", "paper", "setting", "test", "configurations", "rule", "command"]
_OPTIONAL = ["method", "rivals", "required", "within", "at_most", "at_least"]
_NEEDED = {
    "share": ["method", "within"], "loses_less": ["method"], "loses_less_in_each": ["method"],
    "above_each": ["method", "rivals", "required"], "coresets_above_each": ["rivals", "required"],
    "overhead": ["method", "at_most"],
}  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """One claim and the rule that decides it."""

    id: str
    kind: str
    claim: str
    short: str
    """The same in a line."""
    where: str
    paper: str
    setting: str
    test: str
    configurations: int
    """Of the paper's, how many it needs."""
    rule: str
    command: str
    method: str = "scan"
    rivals: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    within: tuple[float, float] = (0.0, 1.0)
    at_most: float = 0.0
    at_least: float = 0.0
    """What a difference must be above."""


@dataclass(frozen=True)
class Plan:
    """What was planned before the runs, as the report prints it."""

    date: str
    endpoint: str
    smallest_effect: float
    """A fraction."""
    seeds: int
    configurations: int
    stopping: str


@dataclass(frozen=True)
class Registry:
    """All of ``claims.yaml``."""

    margin: float
    minimum_seeds: int
    budget_tolerance: float
    plan: Plan
    measures: Mapping[str, Mapping[str, Sequence[tuple[str, str]]]]
    """Framework -> name of a measure -> its (task, metric)."""
    endpoint: Mapping[str, str]
    """Framework -> the measure that decides; the others stand beside it."""
    paper: Mapping[tuple[str, str, str], PaperConfiguration]
    """Framework, model and pool -> that configuration of the paper's."""
    claims: tuple[Claim, ...]

    def alternatives(self, frameworks: Iterable[str]) -> list[str]:
        """Names of the measures that do not decide in one of the frameworks at least."""
        found = (name for one in frameworks for name in self.measures.get(one, {}) if name != self.endpoint[one])
        return list(dict.fromkeys(found))

    def counts(self, key: tuple[str, str, str], record: Mapping[str, Any]) -> bool:
        """Whether a record of this framework, model and pool is one of the paper's configurations."""
        own = self.paper.get(key)
        return own is not None and all(one.is_accepted for one in own.departures(record))


def read_claims(path: Path = CLAIMS_FILE) -> Registry:
    """Raises ConfigError naming the file and the key."""
    node = load_yaml(path)
    keys = ["margin", "minimum_seeds", "budget_tolerance", "settings_tolerance", "plan", "measures", "endpoint"]
    check_keys(node, [*keys, "paper", "claims"], str(path), all_required=True)
    claims = [_claim(one, f"{path}: claims[{i}]") for i, one in enumerate(node["claims"])]
    if len({claim.id for claim in claims}) < len(claims):
        raise ConfigError(f"{path}: claims: two have one id")
    measures = {
        framework: {name: [(task, metric) for task, metric in found] for name, found in own.items()}
        for framework, own in node["measures"].items()
    }
    check_keys(node["endpoint"], list(measures), f"{path}: endpoint", "framework", all_required=True)
    for framework, name in node["endpoint"].items():
        if name not in measures[framework]:
            known = ", ".join(measures[framework])
            raise ConfigError(f"{path}: endpoint.{framework}: '{name}' is no measure of it (known: {known})")
    tolerance = float(node["settings_tolerance"])
    paper = [c for i, one in enumerate(node["paper"]) for c in _paper(one, f"{path}: paper[{i}]", tolerance)]
    return Registry(
        margin=float(node["margin"]),
        minimum_seeds=int(node["minimum_seeds"]),
        budget_tolerance=float(node["budget_tolerance"]),
        plan=_plan(node["plan"], f"{path}: plan"),
        measures=measures,
        endpoint=dict(node["endpoint"]),
        paper={configuration.key: configuration for configuration in paper},
        claims=tuple(claims),
    )


def _plan(node: Mapping[str, Any], where: str) -> Plan:
    check_keys(node, [f.name for f in dataclasses.fields(Plan)], where, all_required=True)
    return Plan(**{**node, "date": str(node["date"])})


def _paper(node: Mapping[str, Any], where: str, tolerance: float) -> Iterator[PaperConfiguration]:
    """A configuration a pool and model of one entry."""
    check_keys(node, ["framework", "models", "pools", "dataset", "train", "warmup_ends"], where, all_required=True)
    options = [f.name for f in dataclasses.fields(TrainConfig)]
    for pool, num_samples in node["pools"].items():
        for model, own in node["models"].items():
            train = {**node["train"], **own}
            check_keys(train, options, f"{where}.train", what="option")
            yield PaperConfiguration(
                framework=node["framework"],
                model=model,
                pool=pool,
                num_samples=num_samples,
                dataset=node["dataset"],
                train={key: tuple(v) if isinstance(v, list) else (v,) for key, v in train.items()},
                tolerance=tolerance,
                warmup_ends=tuple(node["warmup_ends"]),
            )


def _claim(node: Mapping[str, Any], where: str) -> Claim:
    check_keys(node, [*_KEYS, *_OPTIONAL], where)
    for key in _KEYS + _NEEDED.get(str(node.get("test")), []):
        if key not in node:
            raise ConfigError(f"{where}.{key}: missing")
    for key, allowed in (("test", TESTS), ("kind", KINDS)):
        if node[key] not in allowed:
            raise ConfigError(f"{where}.{key}: must be one of {', '.join(allowed)}, got {node[key]!r}")
    lists = {key: tuple(node[key]) for key in ("rivals", "required", "within") if key in node}
    return Claim(**{**node, **lists})
