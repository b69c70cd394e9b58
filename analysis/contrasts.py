"""Contrasts that were registered before their runs, found again from the records: estimate, interval, p, verdict.

``python -m analysis.contrasts docs/mini/contrasts.yaml [--results DIR] [--out DIR]``

A question has a family of contrasts. Each is a paired difference, seed by seed, of one measure; several methods of
an arm, several pairs and several models are averaged within a seed first. Only seeds count that are whole for all
arms of a question. Intervals are Student's t over seeds; p-values are two-sided, adjusted by Holm in a question.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from scipy import stats

from analysis.blocks.statistics import t_interval
from analysis.figures import style
from analysis.read.results import Results, Run, load
from benchmark.files import told, write_atomic, write_text
from benchmark.options import ConfigError, Parser, check_keys, did_you_mean, load_yaml, must_be_mapping

LEVEL = 0.05
MOST_SEEDS = 1000
QUESTION_KEYS = ("id", "asks", "sweeps", "framework", "models", "pool", "seeds", "contrasts")


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
    pool: str
    seeds: tuple[int, ...]
    contrasts: tuple[Contrast, ...]
    measure: str
    """One of the file's; by default that of the framework's name."""
    ceiling: Contrast | None
    """The most that a method could bring; ``shared`` contrasts are told as shares of it too."""
    shared: frozenset[str]


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


@dataclass(frozen=True)
class Answer:
    """What the records say of a contrast; fractions."""

    contrast: Contrast
    differences: tuple[float, ...]
    """A seed each."""
    p: float | None
    """Adjusted; None for fewer than two seeds or where nothing differs between them."""
    verdict: str
    needed: int | None
    """Seeds that would settle what is unsettled, were mean and standard deviation to stay; None if it is settled
    or would take more than 1,000."""
    share: float | None
    """Of the ceiling."""
    beside: Mapping[str, float]
    """Mean differences of the secondary measures, by name."""

    @property
    def mean(self) -> float | None:
        return float(np.mean(self.differences)) if self.differences else None


def read_registered(path: Path) -> Registered:
    """Raises ConfigError naming the file and the key."""
    node = load_yaml(path)
    check_keys(node, ("margin", "measures", "secondary", "questions"), f"{path}:", all_required=True)
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
    return Registered(float(node["margin"]), measures, secondary, questions)


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
    check_keys(node, (*QUESTION_KEYS, "measure", "ceiling", "shared"), where)
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
        pool=node["pool"],
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


class Values:
    """The runs of a question, by what an arm asks for."""

    def __init__(self, question: Question, results: Results) -> None:
        """Raises ConfigError for a method that no run of the sweeps has, done or planned."""
        self.question = question
        self.runs: dict[tuple[str, str, int], list[Run]] = {}
        for run in results.runs:
            framework, model, pool = run.key
            if (framework, pool) == (question.framework, question.pool):
                self.runs.setdefault((run.record["method"], model, run.record["seed"]), []).append(run)
        for arm in self._arms():
            for method in arm.methods:
                if method not in results.methods:
                    near = did_you_mean(method, results.methods)
                    raise ConfigError(
                        f"{question.id}: no run of {', '.join(question.sweeps)} is of '{method}'{near}"
                    )

    def seeds(self, measure: Measure) -> list[int]:
        """Those that are whole for all arms."""
        return [
            seed
            for seed in self.question.seeds
            if all(
                self._mean(arm, model, seed, measure) is not None
                for arm in self._arms()
                for model in self.question.models
            )
        ]

    def differences(self, contrast: Contrast, measure: Measure, seeds: Iterable[int]) -> list[float]:
        """A seed each, of seeds that are whole."""
        return [
            float(
                np.mean(
                    [
                        self._value(first, model, seed, measure) - self._value(second, model, seed, measure)
                        for first, second in contrast.pairs
                        for model in self.question.models
                    ]
                )
            )
            for seed in seeds
        ]

    def _arms(self) -> list[Arm]:
        contrasts = [*self.question.contrasts, *([self.question.ceiling] if self.question.ceiling else [])]
        return [arm for contrast in contrasts for pair in contrast.pairs for arm in pair]

    def _value(self, arm: Arm, model: str, seed: int, measure: Measure) -> float:
        value = self._mean(arm, model, seed, measure)
        assert value is not None, "the seed is whole"
        return value

    def _mean(self, arm: Arm, model: str, seed: int, measure: Measure) -> float | None:
        values = []
        for method in arm.methods:
            runs = self.runs.get((method, model, seed), [])
            fit = [run for run in runs if arm.epochs in (None, run.record["config"]["train"]["epochs"])]
            value = measure.of(fit[0].record) if len(fit) == 1 else None
            if value is None:
                return None
            values.append(value)
        return float(np.mean(values))


def answers(question: Question, registered: Registered, results: Results | None) -> list[Answer]:
    """A contrast each; without ``results`` there are no records. Raises ConfigError for an unknown method."""
    if results is None:
        return [
            Answer(one, (), None, verdict((), None, registered.margin), None, None, {})
            for one in question.contrasts
        ]
    values, measure = Values(question, results), registered.primary[question.measure]
    seeds = values.seeds(measure)
    found = [values.differences(contrast, measure, seeds) for contrast in question.contrasts]
    ceiling = values.differences(question.ceiling, measure, seeds) if question.ceiling else []
    adjusted = holm([p_value(one) for one in found])
    beside = registered.secondary.get(question.measure, ())
    return [
        Answer(
            contrast,
            tuple(differences),
            p,
            verdict(differences, p, registered.margin),
            seeds_needed(differences, registered.margin),
            float(np.mean(differences) / np.mean(ceiling)) if ceiling and contrast.id in question.shared else None,
            {
                other.name: float(np.mean(of_other))
                for other in beside
                if (of_other := values.differences(contrast, other, values.seeds(other)))
            },
        )
        for contrast, differences, p in zip(question.contrasts, found, adjusted, strict=True)
    ]


def p_value(differences: Sequence[float]) -> float | None:
    """Two-sided, of Student's t test that the mean is 0; None for fewer than two seeds or no variance."""
    if len(differences) < 2 or np.ptp(differences) == 0:
        return None
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (1979) of those that are there."""
    order = sorted((i for i, p in enumerate(ps) if p is not None), key=lambda i: ps[i] or 0.0)
    found: list[float | None] = [None] * len(ps)
    least = 0.0
    for place, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - place) * (ps[i] or 0.0)))
        found[i] = least
    return found


def verdict(differences: Sequence[float], p: float | None, margin: float) -> str:
    """By the table of ``docs/mini_protocol.md``; ``p``, adjusted, decides where it and an interval disagree."""
    if not differences:
        return "no records"
    wide, narrow = t_interval(differences, 0.95), t_interval(differences, 0.90)
    if p is None or wide is None or narrow is None:
        return "unsettled"
    differs, up = p < LEVEL, float(np.mean(differences)) > 0
    nearest = wide[0] if up else -wide[1]
    word = "better" if up else "worse"
    if differs and nearest > margin:
        return f"{word}, by more than matters"
    if -margin <= narrow[0] and narrow[1] <= margin:
        return "the same within the margin"
    if differs and nearest > 0:
        return f"{word}; whether it matters is open"
    return "unsettled"


def seeds_needed(differences: Sequence[float], margin: float) -> int | None:
    """As ``Answer.needed``: by the intervals alone, without Holm."""
    if len(differences) < 2 or np.ptp(differences) == 0:
        return None
    mean, sd = abs(float(np.mean(differences))), float(np.std(differences, ddof=1))
    if verdict(differences, p_value(differences), margin) != "unsettled":
        return None
    for n in range(len(differences) + 1, MOST_SEEDS + 1):
        wide, narrow = (stats.t.ppf(level, n - 1) * sd / n**0.5 for level in (0.975, 0.95))
        if wide < mean or mean + narrow <= margin:
            return n
    return None


# --- showing ------------------------------------------------------------------------------------------------


def main(words: Sequence[str] | None = None) -> int:
    """0 when the contrasts were answered, also with few records; 2 for a mistake."""
    parser = Parser(prog="python -m analysis.contrasts", description="Answer contrasts that were registered.")
    parser.add_argument("file", type=Path, help="YAML of the contrasts, such as docs/mini/contrasts.yaml")
    parser.add_argument("--results", type=Path, default=Path("results"), help="holds a folder a sweep")
    parser.add_argument("--out", type=Path, help="folder for contrasts.md, .csv and a figure a question")
    options = parser.parse_args(words)
    try:
        registered = read_registered(options.file)
        found = [
            (one, answers(one, registered, _load(options.results, one.sweeps))) for one in registered.questions
        ]
        text = "\n".join(markdown(question, of, registered) for question, of in found)
        print(text)
        if options.out:
            write_text(options.out / "contrasts.md", text)
            write_text(options.out / "contrasts.csv", _csv(found))
            for question, of in found:
                if any(answer.differences for answer in of):
                    drawn = figure(question, of, registered.margin)
                    for ending, image in (("png", drawn.png), ("svg", drawn.svg)):
                        write_atomic(options.out / f"{drawn.name}.{ending}", partial(_put, image))
    except (ConfigError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {told(error)}", file=sys.stderr)
        return 2
    return 0


@lru_cache
def _load(folder: Path, sweeps: tuple[str, ...]) -> Results | None:
    """None unless all of the sweeps have begun."""
    return load(folder, sweeps) if all((folder / name).is_dir() for name in sweeps) else None


def _put(image: bytes, file: BinaryIO) -> None:
    file.write(image)


def points(value: float) -> str:
    """``+0.42``, with a minus sign that is one."""
    return f"{100 * value:+.2f}".replace("-", "−")


def markdown(question: Question, found: Sequence[Answer], registered: Registered) -> str:
    """A table of the primary measure, and one of the others."""
    measure, n = registered.primary[question.measure], len(found[0].differences)
    lines = [
        f"### {question.id}. {question.asks}",
        "",
        f"{', '.join(question.models)} on {question.pool}; {measure.name}, points; n = {n} of"
        f" {len(question.seeds)} seeds.",
        "",
    ]
    if not n:
        return "\n".join([*lines[:2], f"No seed is whole for all arms yet (0 of {len(question.seeds)}).", ""])
    lines += [
        "| | contrast | difference | 95 % interval | adjusted p | verdict |" + " share |" * bool(question.ceiling),
        "| --- | --- | --: | --- | --: | --- |" + " --: |" * bool(question.ceiling),
    ]
    for one in found:
        interval = t_interval(one.differences, 0.95)
        cells = [
            one.contrast.id,
            one.contrast.asks,
            "" if one.mean is None else points(one.mean),
            "" if interval is None else f"{points(interval[0])} to {points(interval[1])}",
            "" if one.p is None else f"{one.p:.3f}" if one.p >= 0.001 else "< 0.001",
            one.verdict + (f" (n ≈ {one.needed} would settle it)" if one.needed else ""),
        ]
        share = "" if one.share is None else f"{100 * one.share:.0f} %"
        lines.append("| " + " | ".join([*cells, *([share] if question.ceiling else [])]) + " |")
    names = list(dict.fromkeys(name for one in found for name in one.beside))
    if names:
        shares = {m.name: m.is_share for m in registered.secondary[question.measure]}
        lines += ["", "| beside it | " + " | ".join(names) + " |", "| --- |" + " --: |" * len(names)]
        for one in found:
            cells = [
                "" if name not in one.beside
                else points(one.beside[name]) if shares[name]
                else f"{one.beside[name]:+.3f}".replace("-", "−")
                for name in names
            ]  # fmt: skip
            lines.append(f"| {one.contrast.id} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _csv(found: Iterable[tuple[Question, Sequence[Answer]]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["question", "contrast", "n", "mean", "low95", "high95", "p_holm", "verdict", "share", "seeds"]
    )
    for question, some in found:
        for one in some:
            low, high = t_interval(one.differences, 0.95) or ("", "")
            seeds = " ".join(f"{difference:.6f}" for difference in one.differences)
            row = [question.id, one.contrast.id, len(one.differences), one.mean, low, high, one.p, one.verdict]
            writer.writerow([*row, one.share, seeds])
    return file.getvalue()


def figure(question: Question, found: Sequence[Answer], margin: float) -> style.Drawing:
    """Contrasts downwards: the mean with its 95 % interval, the seeds behind it, and the band of no interest."""
    shown = [one for one in found if one.differences]
    with style.axes(0.7 + 0.34 * len(shown)) as (drawn, panel):
        panel.axvspan(-100 * margin, 100 * margin, color="#eeeeee", zorder=0)
        panel.axvline(0, color="#888888", linewidth=0.8, zorder=1)
        for place, one in enumerate(shown):
            of_seeds = [100 * difference for difference in one.differences]
            panel.plot(of_seeds, [place] * len(of_seeds), "|", color="#999999", markersize=7, zorder=2)
            mean, interval = 100 * float(np.mean(one.differences)), t_interval(one.differences, 0.95)
            if interval is not None:
                panel.plot(
                    [100 * edge for edge in interval],
                    [place, place],
                    color=style.STRONG["scan"],
                    linewidth=1.8,
                    zorder=3,
                )
            panel.plot(mean, place, "o", color=style.STRONG["scan"], markersize=5, zorder=4)
        panel.set_yticks(range(len(shown)), [f"{one.contrast.id}  {one.contrast.asks}" for one in shown])
        panel.set_ylim(len(shown) - 0.5, -0.5)
        panel.grid(axis="y", visible=False)
        panel.set_xlabel("difference, points")
        drawn.set_size_inches(style.PAGE_INCHES, drawn.get_figheight())
        title = f"{question.id}. {question.asks}"
        caption = f"Mean and 95 % interval over {len(shown[0].differences)} seeds (ticks); grey: the margin."
        return style.drawing(drawn, style.slug("contrasts", question.id), title, caption)


if __name__ == "__main__":
    raise SystemExit(main())
