"""A file of contrasts that were registered before their runs -> ``Registered``; a mistake names its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmark.options import ConfigError, check_keys, did_you_mean, load_yaml, must_be_mapping

T = TypeVar("T")
KEYS = ("margin", "measures", "secondary", "questions", "figures")
QUESTION_KEYS = ("id", "asks", "sweeps", "framework", "models", "seeds", "contrasts")


@dataclass(frozen=True)
class Measure:
    """The mean of some of a record's rows."""

    name: str
    rows: frozenset[tuple[str, str, str]]
    """(task, dataset, metric)."""
    is_share: bool
    """Shown in points, not as it is."""

    def of(self, record: Mapping[str, Any]) -> float | None:
        """None unless the record has every row."""
        values = {
            (row["task"], row["dataset"], row["metric"]): row["value"]
            for row in record["metrics"]
            if (row["task"], row["dataset"], row["metric"]) in self.rows
        }
        return float(np.mean(list(values.values()))) if len(values) == len(self.rows) else None


@dataclass(frozen=True)
class Arm:
    """What is compared: methods, of which the mean is taken."""

    methods: tuple[str, ...]
    epochs: int | None
    """Of runs of this length alone."""


@dataclass(frozen=True)
class Contrast:
    """The mean of the differences of some pairs of arms."""

    id: str
    asks: str
    pairs: tuple[tuple[Arm, Arm], ...]


@dataclass(frozen=True)
class Question:
    """A family of contrasts over the same runs."""

    id: str
    asks: str
    sweeps: tuple[str, ...]
    framework: str
    models: tuple[str, ...]
    pools: tuple[str, ...]
    seeds: tuple[int, ...]
    contrasts: tuple[Contrast, ...]
    measure: str
    """One of the file's; by default that of the framework's name."""
    ceiling: Contrast | None
    """The most that a method could bring; ``shared`` contrasts are told as shares of it too."""
    shared: frozenset[str]


@dataclass(frozen=True)
class Row:
    """A contrast as a row of a figure."""

    question: Question
    contrast: Contrast
    says: str


@dataclass(frozen=True)
class Levels:
    """A panel: methods against one other, on the runs of a question."""

    title: str
    question: Question
    against: Arm
    lines: Mapping[str, tuple[Arm, ...]]
    """Label -> one arm, or one a dose."""


@dataclass(frozen=True)
class Figure:
    """Contrasts of any questions, or methods' differences to one other."""

    name: str
    title: str
    rows: tuple[Row, ...] = ()
    panels: tuple[Levels, ...] = ()


@dataclass(frozen=True)
class Registered:
    """A file of questions."""

    margin: float
    """The smallest effect of interest, a fraction."""
    primary: Mapping[str, Measure]
    """By name."""
    secondary: Mapping[str, tuple[Measure, ...]]
    """Shown beside a primary one; they decide nothing."""
    questions: tuple[Question, ...]
    figures: tuple[Figure, ...] = ()


def read_registered(path: Path) -> Registered:
    """Raises ConfigError naming the file and the key."""
    node = load_yaml(path)
    check_keys({"figures": [], **node}, KEYS, f"{path}:", all_required=True)
    measures = {name: _measure(one, f"{path}: measures.{name}") for name, one in node["measures"].items()}
    secondary = {
        name: tuple(_measure(one, f"{path}: secondary.{name}[{i}]") for i, one in enumerate(some))
        for name, some in node["secondary"].items()
    }
    questions = tuple(_question(one, f"{path}: questions[{i}]") for i, one in enumerate(node["questions"]))
    for i, question in enumerate(questions):
        if question.measure not in measures:
            near = did_you_mean(question.measure, measures)
            raise ConfigError(f"{path}: questions[{i}]: there is no measure '{question.measure}'{near}")
    by_id = {question.id: question for question in questions}
    figures = tuple(_figure(one, by_id, f"{path}: figures[{i}]") for i, one in enumerate(node.get("figures", ())))
    return Registered(float(node["margin"]), measures, secondary, questions, figures)


def _measure(node: Any, where: str) -> Measure:
    must_be_mapping(node, where)
    check_keys({"unit": "points", **node}, ("name", "rows", "unit"), where, all_required=True)
    for i, one in enumerate(node["rows"]):
        must_be_mapping(one, f"{where}.rows[{i}]")
        check_keys(one, ("task", "datasets", "metrics"), f"{where}.rows[{i}]", all_required=True)
    rows = [
        (one["task"], dataset, metric)
        for one in node["rows"]
        for dataset in one["datasets"]
        for metric in one["metrics"]
    ]
    return Measure(node["name"], frozenset(rows), node.get("unit", "points") == "points")


def _question(node: Any, where: str) -> Question:
    must_be_mapping(node, where)
    check_keys(node, (*QUESTION_KEYS, "pool", "pools", "measure", "ceiling", "shared"), where)
    if ("pool" in node) == ("pools" in node):
        raise ConfigError(f"{where}: expected either pool or pools")
    for key in QUESTION_KEYS:
        if key not in node:
            raise ConfigError(f"{where}.{key}: missing")
    ceiling = None
    if "ceiling" in node:
        ceiling = Contrast("ceiling", "", (_pair(node["ceiling"], f"{where}.ceiling"),))
    must_be_mapping(node["contrasts"], f"{where}.contrasts")
    contrasts = tuple(_contrast(name, one, f"{where}.contrasts.{name}") for name, one in node["contrasts"].items())
    return Question(
        id=str(node["id"]),
        asks=node["asks"],
        sweeps=tuple(node["sweeps"]),
        framework=node["framework"],
        models=tuple(node["models"]),
        pools=tuple(node["pools"]) if "pools" in node else (node["pool"],),
        seeds=tuple(node["seeds"]),
        contrasts=contrasts,
        measure=node.get("measure", node["framework"]),
        ceiling=ceiling,
        shared=frozenset(node.get("shared", ())),
    )


def _contrast(name: str, node: Any, where: str) -> Contrast:
    must_be_mapping(node, where)
    check_keys(node, ("asks", "pairs"), where, all_required=True)
    return Contrast(name, node["asks"], tuple(_pair(pair, where) for pair in node["pairs"]))


def _pair(node: Any, where: str) -> tuple[Arm, Arm]:
    if not isinstance(node, list) or len(node) != 2:
        raise ConfigError(f"{where}: expected two arms, got {node!r}")
    return _arm(node[0], where), _arm(node[1], where)


def _arm(node: Any, where: str) -> Arm:
    if isinstance(node, Mapping):
        check_keys(node, ("method", "epochs"), where, all_required=True)
        return Arm((node["method"],), int(node["epochs"]))
    return Arm(tuple(node) if isinstance(node, list) else (node,), None)


def _figure(node: Any, questions: Mapping[str, Question], where: str) -> Figure:
    must_be_mapping(node, where)
    check_keys({"rows": [], "panels": [], **node}, ("name", "title", "rows", "panels"), where, all_required=True)
    if ("rows" in node) == ("panels" in node):
        raise ConfigError(f"{where}: expected either rows or panels")
    rows = tuple(_row(one, questions, f"{where}.rows[{i}]") for i, one in enumerate(node.get("rows", ())))
    panels = tuple(_levels(one, questions, f"{where}.panels[{i}]") for i, one in enumerate(node.get("panels", ())))
    if len({panel.against for panel in panels}) > 1:
        raise ConfigError(f"{where}: all panels must be against one method")
    if len({len(arms) for panel in panels for arms in panel.lines.values()}) > 1:
        raise ConfigError(f"{where}: all lines must have one arm, or as many doses as the others")
    return Figure(node["name"], node["title"], rows, panels)


def _row(node: Any, questions: Mapping[str, Question], where: str) -> Row:
    must_be_mapping(node, where)
    check_keys(node, ("question", "contrast", "says"), where, all_required=True)
    question = _of(questions, node["question"], f"{where}.question")
    contrasts = {one.id: one for one in question.contrasts}
    return Row(question, _of(contrasts, node["contrast"], f"{where}.contrast"), node["says"])


def _levels(node: Any, questions: Mapping[str, Question], where: str) -> Levels:
    must_be_mapping(node, where)
    check_keys(node, ("title", "question", "against", "lines"), where, all_required=True)
    must_be_mapping(node["lines"], f"{where}.lines")
    lines = {}
    for label, arms in node["lines"].items():
        some = arms if isinstance(arms, list) else [arms]
        lines[label] = tuple(_arm(one, f"{where}.lines.{label}") for one in some)
    question = _of(questions, node["question"], f"{where}.question")
    return Levels(node["title"], question, _arm(node["against"], f"{where}.against"), lines)


def _of(known: Mapping[str, T], name: Any, where: str) -> T:
    if str(name) not in known:
        raise ConfigError(f"{where}: there is no '{name}'{did_you_mean(str(name), known)}")
    return known[str(name)]
