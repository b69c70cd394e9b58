"""``claims.yaml``, read strictly: a wrong or missing key is an error with its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.claims.settings import PaperConfiguration
from benchmark.config.run import TrainConfig
from benchmark.options import ConfigError, check_keys, load_yaml

CLAIMS_FILE = Path(__file__).parents[1] / "claims.yaml"

TESTS = ("share", "loses_less", "loses_less_in_each", "above_each", "coresets_above_each", "overhead")
KINDS = ("reproduction", "extension")
_KEYS = ["id", "kind", "claim", "where", "paper", "setting", "test", "configurations", "rule", "command"]
_OPTIONAL = ["method", "rivals", "required", "within", "at_most"]
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


@dataclass(frozen=True)
class Registry:
    """All of ``claims.yaml``."""

    margin: float
    minimum_seeds: int
    budget_tolerance: float
    measures: Mapping[str, Sequence[tuple[str, str]]]
    """Framework -> (task, metric), the preferred first."""
    paper: Mapping[tuple[str, str, str], PaperConfiguration]
    """Framework, model and pool -> that configuration of the paper's."""
    claims: tuple[Claim, ...]

    def counts(self, key: tuple[str, str, str], record: Mapping[str, Any]) -> bool:
        """Whether a record of this framework, model and pool is one of the paper's configurations."""
        own = self.paper.get(key)
        return own is not None and all(one.is_accepted for one in own.departures(record))


def read_claims(path: Path = CLAIMS_FILE) -> Registry:
    """Raises ConfigError naming the file and the key."""
    node = load_yaml(path)
    keys = [*("margin", "minimum_seeds", "budget_tolerance", "settings_tolerance", "measures", "paper", "claims")]
    check_keys(node, keys, str(path), all_required=True)
    claims = [_claim(one, f"{path}: claims[{i}]") for i, one in enumerate(node["claims"])]
    if len({claim.id for claim in claims}) < len(claims):
        raise ConfigError(f"{path}: claims: two have one id")
    tolerance = float(node["settings_tolerance"])
    paper = [c for i, one in enumerate(node["paper"]) for c in _paper(one, f"{path}: paper[{i}]", tolerance)]
    return Registry(
        margin=float(node["margin"]),
        minimum_seeds=int(node["minimum_seeds"]),
        budget_tolerance=float(node["budget_tolerance"]),
        measures={name: [(task, metric) for task, metric in found] for name, found in node["measures"].items()},
        paper={configuration.key: configuration for configuration in paper},
        claims=tuple(claims),
    )


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
