"""What is left of a sweep in GPU hours, by the best that is known of each run.

Records of the same model and pool come first, then a rehearsal of the run's shape, then FLOPs; what none of them
can tell is bounded by its time limit.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.config.choice_pass import ChoiceConfig
from benchmark.config.evaluation import EvaluationConfig
from benchmark.config.job import JobConfig
from benchmark.config.launch import LaunchConfig
from benchmark.config.run import RunConfig
from benchmark.plan import roofline
from benchmark.plan.plan import PlannedRun
from benchmark.plan.schedule import schedule_of
from benchmark.plan.shapes import shape_of
from benchmark.runs.folder import RECORD_FILE
from benchmark.runs.log import last_line
from benchmark.runs.record import RecordError, read_record
from benchmark.runs.rehearsals import rehearsed_shapes

RECORDS, REHEARSAL, FLOPS, LIMIT = "records", "rehearsal", "flops", "limit"
WORDS = {
    RECORDS: "about {hours} {unit} hours of training for {runs} runs, as records of the same model and pool say"
    " ({devices})",
    REHEARSAL: "about {hours} {unit} hours for {runs} runs and their evaluation, as rehearsed ({devices})",
    FLOPS: "about {hours} {unit} hours of training for {runs} runs, reckoned from FLOPs and from how"
    " fast a core loads samples, not measured ({devices}; --rehearse does), at most {most} by their time limits",
    LIMIT: "at most {most} {unit} hours for {runs} runs, by their time limits: nothing tells what they take",
}
"""By what is known of the runs."""


@dataclass
class _Part:
    """Runs of which as much is known."""

    runs: int = 0
    hours: float = 0.0
    most_hours: float = 0.0
    devices: set[str] = field(default_factory=set)


@dataclass
class Estimate:
    """Hours of GPUs, or of cores for runs without, by what they were found from."""

    unit: str
    parts: dict[str, _Part] = field(default_factory=lambda: {name: _Part() for name in WORDS})

    def add(self, found_by: str, hours: float, limit_hours: float, device: str) -> None:
        part = self.parts[found_by]
        part.runs += 1
        part.hours += hours
        part.most_hours += limit_hours
        part.devices.update({device} - {""})

    def __str__(self) -> str:
        told = [
            words.format(
                hours=hours_text(part.hours),
                most=hours_text(part.most_hours),
                unit=self.unit,
                runs=part.runs,
                devices=", ".join(sorted(part.devices)),
            )
            for name, words in WORDS.items()
            if (part := self.parts[name]).runs
        ]
        return "; ".join(told)


@dataclass(frozen=True)
class _Rate:
    """What a record says of a sample's cost."""

    rank_seconds: float
    """Of one rank, a sample."""
    share: float
    """Of the full data's samples that the method visited."""
    method: str
    device: str


@dataclass(frozen=True)
class _Found:
    by: str
    rank_hours: float
    """Of one rank, all ranks' together."""
    device: str = ""


def estimate(runs: Sequence[PlannedRun], results: Path) -> list[Estimate]:
    """For runs that are to start, with GPUs and without; what lies behind their checkpoints is not counted."""
    look = _Knowledge(results, {run.config.name: run.config for run in runs})
    totals = {"GPU": Estimate("GPU"), "core": Estimate("core")}
    # what is done, or taken over, lacks an evaluation alone
    for run in (run for run in runs if run.state.name != "done" and not (run.origin or run.folder.origin)):
        launch = run.config.launch
        found = look.at(run)
        limit = launch.minutes / 60 * launch.num_ranks
        each = units_of_rank(launch)
        totals["GPU" if launch.gpus else "core"].add(found.by, found.rank_hours * each, limit * each, found.device)
    return [total for total in totals.values() if str(total)]


def units_of_rank(launch: LaunchConfig) -> float:
    """GPUs that a rank takes, or cores where it has none."""
    return launch.gpus / launch.ranks_per_node if launch.gpus else launch.cpus


@dataclass
class _Knowledge:
    """What is known of runs before they start."""

    results: Path
    planned: Mapping[str, JobConfig]
    rates: dict[tuple[str, ...], list[_Rate]] = field(default_factory=dict)
    rehearsed: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rehearsed = dict(rehearsed_shapes(self.results))

    def at(self, run: PlannedRun) -> _Found:
        ways: tuple[Callable[[PlannedRun], _Found | None], ...] = (
            self._by_records,
            self._by_rehearsal,
            self._by_flops,
        )
        found = next((known for way in ways if (known := way(run)) is not None), None)
        return _Found(LIMIT, 0.0) if found is None else found

    def _by_records(self, run: PlannedRun) -> _Found | None:
        config = run.config
        if not isinstance(config, RunConfig) or run.samples is None:
            return None
        kind = _kind(config.launch)
        key = (
            config.framework,
            config.model.name,
            config.pool_label,
            str(config.model.options),
            config.train.precision,
            kind,
        )
        if key not in self.rates:
            self.rates[key] = _rates(config, self.results, kind)
        rates = self.rates[key]
        if not rates:
            return None
        share = [rate.share for rate in rates if rate.method == config.method]
        samples = run.samples * config.train.epochs * _left(run) * (median(share) if share else 1.0)
        seconds = samples * median(rate.rank_seconds for rate in rates)
        return _Found(RECORDS, seconds / 3600, ", ".join(sorted({rate.device for rate in rates})))

    def _by_rehearsal(self, run: PlannedRun) -> _Found | None:
        known = self.rehearsed.get(shape_of(run.config))
        if known is None or known["hours"] is None or known["device_kind"] != _kind(run.config.launch):
            return None
        hours = known["hours"] * (_left(run) if isinstance(run.config, RunConfig) else 1.0)
        return _Found(REHEARSAL, hours * run.config.launch.num_ranks, known["device"])

    def _by_flops(self, run: PlannedRun) -> _Found | None:
        config = run.config
        if run.samples is None or isinstance(config, EvaluationConfig):
            return None
        device = roofline.device_of(config.launch)
        if isinstance(config, RunConfig):
            share = schedule_of(config.pruner, config.train.epochs).share
            samples = run.samples * config.train.epochs * _left(run) * (1.0 if share is None else share)
            return _Found(FLOPS, samples * roofline.seconds_per_sample(config) / 3600, device)
        if isinstance(config, ChoiceConfig):
            needed = roofline.seconds_of_choice(config, run.samples)
            return None if needed is None else _Found(FLOPS, needed / 3600, device)
        encoder = self.planned.get(str(config.encoder.options.get("run")))
        if not isinstance(encoder, RunConfig):
            return None
        seconds = run.samples * roofline.seconds_per_image(config, encoder.model)
        return _Found(FLOPS, seconds / 3600, device)


def _kind(launch: LaunchConfig) -> str:
    return "gpu" if launch.gpus else "cpu"


def _left(run: PlannedRun) -> float:
    """The share of the training that is still to do."""
    return 1 - float((last_line(run.folder.log) or {}).get("progress", 0.0))


def _rates(config: RunConfig, results: Path, kind: str) -> list[_Rate]:
    """Of all records of the same model, pool and precision on the same kind of device, in any sweep."""
    found = []
    opening = config.name.rpartition(f"-{config.pruner.name}-")[0]  # framework, model and pool
    for path in results.glob(f"*/{glob.escape(opening)}-*/{RECORD_FILE}"):
        try:
            record = read_record(path)
        except (OSError, RecordError):  # the report speaks of these
            continue
        theirs, training = record["config"], record["training"]
        same = (
            record["framework"] == config.framework
            and theirs.get("model", {}).get("options") == config.model.options
            and record["pool"] == config.pool_label
            and theirs.get("train", {}).get("precision") == config.train.precision
            and ("gpu" if theirs.get("launch", {}).get("gpus") else "cpu") == kind
            and training["samples_seen"] > 0
        )
        if same:
            cost = training["seconds"] * record["num_ranks"] / training["samples_seen"]
            found.append(_Rate(cost, 1 - training["pruning_rate"], record["method"], record["device"]))
    return found


def hours_text(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}" if hours >= 0.1 else f"{hours:.3f}"
