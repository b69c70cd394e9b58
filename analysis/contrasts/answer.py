"""Records -> what they say of a contrast: paired differences, adjusted p, the verdict by the protocol's table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from analysis.blocks.statistics import t_interval
from analysis.contrasts.registered import Arm, Contrast, Measure, Question, Registered
from analysis.read.results import Results, Run
from benchmark.options import ConfigError, did_you_mean

Place = tuple[str, ...]
"""Model and pool."""
LEVEL = 0.05
MOST_SEEDS = 1000


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


class Values:
    """The runs of a question, by what the arms of some contrasts ask for."""

    def __init__(self, question: Question, contrasts: Iterable[Contrast], results: Results) -> None:
        """Raises ConfigError for a method that no run of the sweeps has, done or planned."""
        self.question = question
        self.places = list(itertools.product(question.models, question.pools))
        self.arms = [arm for contrast in contrasts for pair in contrast.pairs for arm in pair]
        self.runs: dict[tuple[str, Place, int], list[Run]] = {}
        for run in results.runs:
            framework, *place = run.key
            if framework == question.framework:
                self.runs.setdefault((run.record["method"], tuple(place), run.record["seed"]), []).append(run)
        for arm in self.arms:
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
                self._mean(arm, place, seed, measure.of) is not None for arm in self.arms for place in self.places
            )
        ]

    def check(self, measure: Measure) -> None:
        """Raises ConfigError for a row that no run has, where runs have its task: no seed would ever be whole."""
        methods = {method for arm in self.arms for method in arm.methods}
        records = [run.record for key, runs in self.runs.items() if key[0] in methods for run in runs]
        have = {(row["task"], row["dataset"], row["metric"]) for record in records for row in record["metrics"]}
        if any(record["evaluation_skipped"] for record in records):
            return
        for task, dataset, metric in sorted(measure.rows - have):
            if others := {f"{other[2]} of {other[1]}" for other in have if other[0] == task}:
                asked = f"{metric} of {dataset}"
                raise ConfigError(
                    f"{self.question.id}: no run of {', '.join(self.question.sweeps)} has {task}'s"
                    f" '{asked}'{did_you_mean(asked, others)}"
                )

    def differences(self, contrast: Contrast, measure: Measure, seeds: Iterable[int]) -> list[float]:
        """A seed each, of seeds that are whole."""

        def value(arm: Arm, place: Place, seed: int) -> float:
            found = self._mean(arm, place, seed, measure.of)
            assert found is not None, "the seed is whole"
            return found

        return [
            float(
                np.mean(
                    [
                        value(first, place, seed) - value(second, place, seed)
                        for first, second in contrast.pairs
                        for place in self.places
                    ]
                )
            )
            for seed in seeds
        ]

    def left_out(self, arm: Arm, seeds: Iterable[int]) -> float:
        """Share of the visits, the mean over models, pools and seeds that are whole."""
        shares = [
            self._mean(arm, place, seed, lambda record: record["training"]["pruning_rate"])
            for seed in seeds
            for place in self.places
        ]
        return float(np.mean([share for share in shares if share is not None]))

    def _mean(self, arm: Arm, place: Place, seed: int, of: Callable[[Any], float | None]) -> float | None:
        values = []
        for method in arm.methods:
            runs = self.runs.get((method, place, seed), [])
            fit = [run for run in runs if arm.epochs in (None, run.record["config"]["train"]["epochs"])]
            value = of(fit[0].record) if len(fit) == 1 else None
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
    contrasts = [*question.contrasts, *([question.ceiling] if question.ceiling else [])]
    values, measure = Values(question, contrasts, results), registered.primary[question.measure]
    beside = registered.secondary.get(question.measure, ())
    for one in (measure, *beside):
        values.check(one)
    seeds = values.seeds(measure)
    found = [values.differences(contrast, measure, seeds) for contrast in question.contrasts]
    ceiling = values.differences(question.ceiling, measure, seeds) if question.ceiling else []
    adjusted = holm([p_value(one) for one in found])
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
