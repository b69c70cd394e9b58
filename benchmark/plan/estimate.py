"""What is left of a sweep in GPU hours: from records of the same model and pool, else from the time limits."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmark.config.run import RunConfig
from benchmark.plan.plan import PlannedRun
from benchmark.runs.folder import RECORD_FILE
from benchmark.runs.log import last_line
from benchmark.runs.record import RecordError, read_record


@dataclass
class Estimate:
    """Hours of GPUs, or of cores for runs without; ``measured`` runs go by records, ``bounded`` by time limits."""

    unit: str
    measured_hours: float = 0.0
    bounded_hours: float = 0.0
    measured: int = 0
    bounded: int = 0
    devices: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        parts = []
        if self.measured:
            where = ", ".join(sorted(self.devices))
            parts.append(
                f"about {_hours(self.measured_hours)} {self.unit} hours of training for {self.measured} runs, as"
                f" records of the same model and pool say ({where})"
            )
        if self.bounded:
            parts.append(
                f"at most {_hours(self.bounded_hours)} {self.unit} hours for {self.bounded} runs, by their time"
                " limits: there is no record of their model and pool on this kind of device"
            )
        return "; ".join(parts)


@dataclass(frozen=True)
class _Rate:
    """What a record says of a sample's cost."""

    rank_seconds: float
    """Of one rank, a sample."""
    share: float
    """Of the full data's samples that the method visited."""
    method: str
    device: str


def estimate(runs: Sequence[PlannedRun], results: Path) -> list[Estimate]:
    """For runs that are to start, with GPUs and without; what lies behind their checkpoints is not counted."""
    known: dict[tuple[str, ...], list[_Rate]] = {}
    totals = {"GPU": Estimate("GPU"), "core": Estimate("core")}
    # what is done, or taken over, lacks an evaluation alone
    for run in (run for run in runs if run.state.name != "done" and not (run.origin or run.folder.origin)):
        launch = run.config.launch
        total = totals["GPU" if launch.gpus else "core"]
        per_rank = launch.gpus / launch.ranks_per_node if launch.gpus else launch.cpus
        hours = _from_records(run, results, known, total.devices)
        if hours is None:
            total.bounded += 1
            total.bounded_hours += launch.minutes / 60 * launch.num_ranks * per_rank
        else:
            total.measured += 1
            total.measured_hours += hours * per_rank
    return [total for total in totals.values() if total.measured or total.bounded]


def _from_records(
    run: PlannedRun, results: Path, known: dict[tuple[str, ...], list[_Rate]], devices: set[str]
) -> float | None:
    """Hours of one rank that the run still takes, or None if no record tells."""
    config = run.config
    if not isinstance(config, RunConfig) or run.samples is None:
        return None
    kind = "gpu" if config.launch.gpus else "cpu"
    key = (
        config.framework,
        config.model.name,
        config.pool_label,
        str(config.model.options),
        config.train.precision,
        kind,
    )
    if key not in known:
        known[key] = _rates(config, results, kind)
    rates = known[key]
    if not rates:
        return None
    share = [rate.share for rate in rates if rate.method == config.method]
    devices.update(rate.device for rate in rates)
    log = last_line(run.folder.log) or {}
    left = 1 - float(log.get("progress", 0.0))
    samples = run.samples * config.train.epochs * left * (median(share) if share else 1.0)
    return samples * median(rate.rank_seconds for rate in rates) / 3600


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


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}" if hours >= 0.1 else f"{hours:.3f}"
