"""``claims.yaml`` and ``paper_numbers.yaml``, read strictly: a wrong or missing key is an error with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.read.results import Run
from benchmark.options import ConfigError, check_keys, load_yaml

CLAIMS_FILE = Path(__file__).parents[1] / "claims.yaml"
NUMBERS_FILE = Path(__file__).parents[1] / "paper_numbers.yaml"

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
class PaperConfigurations:
    """Some of the paper's configurations, and what a record must be to count as one of them."""

    framework: str
    models: tuple[str, ...]
    pools: Mapping[str, int]
    """Name -> number of samples."""
    epochs: int
    dataset: str

    def holds(self, run: Run) -> bool:
        record = run.record
        return (
            record["framework"] == self.framework
            and record["model"] in self.models
            and record["pool"] in self.pools
            and record["pool_facts"]["num_samples"] >= 0.8 * self.pools[record["pool"]]
            and record["training"]["epochs"] >= self.epochs
        )


@dataclass(frozen=True)
class Registry:
    """All of ``claims.yaml``."""

    margin: float
    minimum_seeds: int
    budget_tolerance: float
    measures: Mapping[str, Sequence[tuple[str, str]]]
    """Framework -> (task, metric), the preferred first."""
    paper: tuple[PaperConfigurations, ...]
    claims: tuple[Claim, ...]

    def paper_keys(self) -> list[tuple[str, str, str]]:
        """Framework, model and pool of each of the paper's configurations."""
        return [(p.framework, model, pool) for p in self.paper for pool in p.pools for model in p.models]

    def dataset_of(self, run: Run) -> str | None:
        """The test set of the paper's configuration that a run is of; None for a run of no such one."""
        return next((p.dataset for p in self.paper if p.holds(run)), None)


@dataclass(frozen=True)
class Published:
    """A number of the paper's."""

    what: str
    value: str
    setting: str
    place: str
    source: str


def read_claims(path: Path = CLAIMS_FILE) -> Registry:
    """Raises ConfigError naming the file and the key."""
    node = load_yaml(path)
    keys = ["margin", "minimum_seeds", "budget_tolerance", "measures", "paper", "claims"]
    check_keys(node, keys, str(path), all_required=True)
    claims = [_claim(one, f"{path}: claims[{i}]") for i, one in enumerate(node["claims"])]
    if len({claim.id for claim in claims}) < len(claims):
        raise ConfigError(f"{path}: claims: two have one id")
    paper = []
    for i, one in enumerate(node["paper"]):
        check_keys(
            one, ["framework", "models", "pools", "epochs", "dataset"], f"{path}: paper[{i}]", all_required=True
        )
        paper.append(PaperConfigurations(**{**one, "models": tuple(one["models"])}))
    return Registry(
        margin=float(node["margin"]),
        minimum_seeds=int(node["minimum_seeds"]),
        budget_tolerance=float(node["budget_tolerance"]),
        measures={name: [(task, metric) for task, metric in found] for name, found in node["measures"].items()},
        paper=tuple(paper),
        claims=tuple(claims),
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


def read_published(path: Path = NUMBERS_FILE) -> tuple[str, list[Published]]:
    """The paper, and its numbers with their sources. Raises ConfigError naming the file and the key."""
    node = load_yaml(path)
    check_keys(node, ["paper", "numbers"], str(path), all_required=True)
    numbers = []
    for i, one in enumerate(node["numbers"]):
        where = f"{path}: numbers[{i}]"
        check_keys(one, ["what", "value", "setting", "place", "source"], where, all_required=True)
        source = str(one["source"])
        if source != "primary" and not source.startswith("secondary: "):
            raise ConfigError(f"{where}.source: must be 'primary' or 'secondary: WHERE FROM', got {source!r}")
        numbers.append(Published(**{key: str(value) for key, value in one.items()}))
    return str(node["paper"]), numbers
