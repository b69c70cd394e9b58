"""Published suites of data sets: ``{suite: datacomp}`` among evaluations stands for a task on each of its sets.

``suites.yaml`` lists the sets with the metric that each is judged by. A set's name is clip_benchmark's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmark.options import ConfigError, build, check_keys, did_you_mean, load_yaml, must_be_mapping

FILE = Path(__file__).with_name("suites.yaml")
WORD = "suite"
SOURCE = "clip_benchmark"
"""The source of all sets."""
RETRIEVAL = "mean_r1"
USUAL = ("top1", "top5", "mean_per_class", RETRIEVAL)
"""Metrics, or means of them, that a task has on every data set."""


@dataclass(frozen=True, kw_only=True)
class SuiteSet:
    """A data set of a suite."""

    metric: str
    """What it is judged by."""
    part: str
    title: str = ""
    images: int | None = None
    """Of the published test split."""
    groups: dict[str, int] = field(default_factory=dict)
    """Kind of group -> its place in an image's vector of metadata."""

    @property
    def task(self) -> str:
        return "retrieval" if self.metric == RETRIEVAL else "zero_shot"


@dataclass(frozen=True)
class Suite:
    """Data sets by name, in the published order."""

    name: str
    title: str
    parts: Mapping[str, str]
    """Part -> its title."""
    left_out: Mapping[str, tuple[str, str]]
    """Published sets that are not among them, each with its part and the reason."""
    sets: Mapping[str, SuiteSet]


@dataclass(frozen=True)
class Score:
    """The mean of the sets' own metrics over a suite, or over a part of it."""

    title: str
    value: float | None
    """A fraction; None where no set is measured."""
    num_measured: int
    num_sets: int
    """Published ones."""


@lru_cache(maxsize=1)
def suites() -> Mapping[str, Suite]:
    """All suites. Raises ConfigError that names the file and key."""
    found = {}
    for name, node in load_yaml(FILE).items():
        check_keys(node, ["title", "parts", "left_out", "sets"], f"{FILE}: {name}", all_required=True)
        sets = {one: build(SuiteSet, facts, f"{FILE}: {name}.sets.{one}") for one, facts in node["sets"].items()}
        found[name] = Suite(name, node["title"], node["parts"], node["left_out"], sets)
    return found


def facts_of(name: str) -> SuiteSet | None:
    """What the first suite that has the data set tells of it."""
    return next((suite.sets[name] for suite in suites().values() if name in suite.sets), None)


def label_of(name: str) -> str:
    """The data set's name in records."""
    return f"{SOURCE}-{name.replace('/', '-')}"


def expanded(node: Any, where: str) -> Any:
    """Evaluations as a sweep file lists them, with a task a set in place of each ``suite``.

    ``{suite: datacomp}`` or ``{suite: {name: datacomp, root: ROOT}}``. Raises ConfigError, opening with ``where``.
    """
    if isinstance(node, list):
        return [item for i, part in enumerate(node) for item in _as_list(expanded(part, f"{where}[{i}]"))]
    if not isinstance(node, Mapping) or list(node) != [WORD]:
        return node
    options = {"name": node[WORD]} if isinstance(node[WORD], str) else node[WORD]
    where = f"{where}.{WORD}"
    must_be_mapping(options, where)
    check_keys(options, ["name", "root"], where)
    suite = suites().get(str(options.get("name")))
    if suite is None:
        name = str(options.get("name"))
        raise ConfigError(f"{where}: unknown suite '{name}'{did_you_mean(name, suites())} (known: {_known()})")
    own = {"root": str(options["root"])} if "root" in options else {}
    return [{one.task: {"dataset": {SOURCE: {"name": name, **own}}}} for name, one in suite.sets.items()]


def asked_whole(options: Iterable[Mapping[str, Any]]) -> list[Suite]:
    """The suites of which evaluations with these options measure all sets."""
    data_sets = [one["dataset"] for one in options if isinstance(one.get("dataset"), Mapping)]
    names = {str(one[SOURCE]["name"]) for one in data_sets if SOURCE in one}
    return [suite for suite in suites().values() if suite.sets.keys() <= names]


def own_values(suite: Suite, rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Set -> the metric it is judged by, of those that a record's ``rows`` measure whole; fractions."""
    measured = {(row["task"], row["dataset"], row["metric"]): float(row["value"]) for row in rows}
    found = {}
    for name, one in suite.sets.items():
        asked = ("image_to_text_r1", "text_to_image_r1") if one.metric == RETRIEVAL else (one.metric,)
        values = [measured.get((one.task, label_of(name), metric)) for metric in asked]
        known = [value for value in values if value is not None]
        if len(known) == len(asked):
            found[name] = sum(known) / len(known)
    return found


def scores(suite: Suite, values: Mapping[str, float]) -> list[Score]:
    """The means over the parts, then over all."""
    found = []
    for part, title in suite.parts.items():
        sets = [name for name, one in suite.sets.items() if one.part == part]
        left_out = sum(place == part for place, _ in suite.left_out.values())
        found.append(_score(title, sets, values, left_out))
    return [*found, _score(suite.title, list(suite.sets), values, len(suite.left_out))]


def _score(title: str, names: Sequence[str], values: Mapping[str, float], num_left_out: int) -> Score:
    known = [values[name] for name in names if name in values]
    return Score(title, sum(known) / len(known) if known else None, len(known), len(names) + num_left_out)


def _as_list(node: Any) -> list[Any]:
    return node if isinstance(node, list) else [node]


def _known() -> str:
    return ", ".join(suites())
