"""From what a rehearsal measured to what the runs of its shape will take, and whether they would get through."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from benchmark.config.choice_pass import ChoiceConfig
from benchmark.config.job import JobConfig
from benchmark.config.launch import LaunchConfig
from benchmark.config.memory import memory_of
from benchmark.config.run import RunConfig
from benchmark.plan import roofline
from benchmark.plan.schedule import schedule_of
from benchmark.rehearsal.derive import Pool
from benchmark.rehearsal.evaluation import Sliced
from benchmark.rehearsal.measure import Measured
from benchmark.runs.state import State

FULL = 0.9
"""Share of a limit from which on it is called reached."""
FAIL, WARN, NOTE = "fail", "warn", "note"


@dataclass(frozen=True)
class Finding:
    level: str
    """``fail``: the runs would not get through; ``warn``; ``note``: something that was not rehearsed."""
    text: str


@dataclass(frozen=True)
class Projection:
    """Hours of one run of a shape, from its start to its record; None where nothing tells."""

    training: float | None = None
    """Or of a pass over features, or of a choice."""
    evaluation: float | None = None
    share: float | None = None
    """Of full data's samples that are visited; None if only data can tell: then hours are those of full data."""

    @property
    def hours(self) -> float | None:
        return None if self.training is None else self.training + (self.evaluation or 0.0)


def project(config: JobConfig, pool: Pool, measured: Measured, sliced: list[Sliced]) -> Projection:
    """``config`` is that of the run itself."""
    if isinstance(config, ChoiceConfig):
        seconds = roofline.seconds_of_choice(config, pool.whole) if pool.whole else None
        return Projection(None if seconds is None else (seconds + measured.usage.first_seconds) / 3600)
    if not isinstance(config, RunConfig):
        each = measured.sample_seconds
        if each is None or pool.whole is None:
            return Projection()
        return Projection((each * pool.whole / config.launch.num_ranks + measured.usage.first_seconds) / 3600)
    assert measured.steps is not None
    share = schedule_of(config.pruner, config.train.epochs).share
    evaluation = sum(_evaluations(measured, sliced)) / 3600
    if pool.whole is None:
        return Projection(None, evaluation, share)
    steps = pool.whole // config.train.batch_size * config.train.epochs * (1.0 if share is None else share)
    training = steps * measured.steps.together(config.train.num_workers)
    training *= 1 + measured.steps.checkpoint / (60 * config.train.checkpoint_minutes)
    return Projection((training + measured.usage.first_seconds) / 3600, evaluation, share)


def _evaluations(measured: Measured, sliced: list[Sliced]) -> Iterator[float]:
    took = iter(measured.evaluation)
    for one in sliced:
        seconds = one.seconds([next(took) for _ in one.slices])
        if seconds is not None:
            yield seconds


def findings(
    config: JobConfig, pool: Pool, measured: Measured, sliced: list[Sliced], hours: Projection
) -> Iterator[Finding]:
    """What does not fit, what was not rehearsed."""
    launch, usage, asks = config.launch, measured.usage, memory_of(config.launch)
    if pool.missing:
        yield Finding(FAIL, f"data: {pool.missing}; made-up samples of its layout stood in for it")
    if asks.gb is not None and usage.memory_bytes > asks.gb * 10**9:
        text = f"memory: {_gb(usage.memory_bytes)} GB of {asks.said} on a node: raise it"
        yield Finding(FAIL, text)
    if launch.gpus and not usage.gpu_total_bytes:
        yield Finding(FAIL, f"GPUs: asked for {launch.gpus} a node, worked without: train.device, or doctor")
    if usage.shared_total_bytes and usage.shared_bytes > FULL * usage.shared_total_bytes:
        text = f"{_gb(usage.shared_bytes)} of {_gb(usage.shared_total_bytes)} GB: fewer train.num_workers"
        yield Finding(FAIL, f"/dev/shm: {text}")
    if usage.open_files > FULL * usage.most_open_files:
        text = f"{usage.open_files} of {usage.most_open_files}: put `ulimit -n` into launch.setup"
        yield Finding(FAIL, f"open files: {text}")
    yield from _times(config, measured, hours)
    if not measured.has_gone_on and isinstance(config, RunConfig):
        yield Finding(WARN, "not stopped half way and taken up again: it ended too soon, or is not requeued")
    if isinstance(config, RunConfig) and not measured.has_pruned and _prunes(config):
        yield Finding(WARN, "no epoch left samples out, though the method does")
    if hours.hours is None:
        unknown = (
            "its pool's size is not known" if pool.whole is None else "what it takes does not follow from a part"
        )
        yield Finding(NOTE, f"hours are not projected: {unknown} ({pool.samples} samples were read)")
    if isinstance(config, ChoiceConfig) and hours.hours is not None:
        yield Finding(NOTE, "hours by what its method multiplies on all of the pool, not by what was measured")
    for one in sliced:
        if one.note:
            yield Finding(NOTE, one.note)
    for reason in measured.skipped:
        yield Finding(WARN, f"an evaluation was skipped: {reason}")


def _times(config: JobConfig, measured: Measured, hours: Projection) -> Iterator[Finding]:
    launch = config.launch
    limit = launch.minutes / 60
    its_limit = launch.of_evaluation.minutes / 60
    key = "launch.evaluate.minutes" if launch.evaluate else "launch.minutes"
    if hours.evaluation is not None and hours.evaluation > its_limit:
        text = f"evaluation: {hours.evaluation:.1f} h, and a job may take {its_limit:.1f} h ({key})"
        yield Finding(WARN, f"{text}; it goes on in further jobs, but a probe's fit on features is not split")
    if measured.steps is None:
        if isinstance(config, ChoiceConfig) and hours.hours is not None and hours.hours > limit:
            text = f"choice: {hours.hours:.1f} h, and a job may take {limit:.1f} h (launch.minutes)"
            yield Finding(FAIL, f"{text}; it cannot be split: raise that, or lower what docs/methods.md says")
        return
    to_save = measured.steps.computing + measured.steps.loading + measured.steps.checkpoint
    if to_save > launch.warning_seconds:
        text = f"a step and a checkpoint take {to_save:.1f} s, and SLURM warns {launch.warning_seconds} s ahead"
        yield Finding(FAIL, f"time to save: {text}: raise launch.signal_seconds")
    if measured.usage.first_seconds + to_save > FULL * launch.minutes * 60:
        text = f"{measured.usage.first_seconds:.0f} s to the first step, in a job of {launch.minutes} min"
        yield Finding(FAIL, f"time: {text}: it would not come further; raise launch.minutes")


def jobs_in_a_row(launch: LaunchConfig, hours: Projection) -> int | None:
    """How many jobs of the time limit a run takes, one after the other."""
    return None if hours.hours is None else max(1, math.ceil(hours.hours / (launch.minutes / 60)))


def not_done(state: State, folder: str) -> Finding:
    return Finding(FAIL, f"its rehearsal is {state.name}: {state.detail or 'without a word'} (in {folder})")


def _prunes(config: RunConfig) -> bool:
    return any(leaves_out for _, leaves_out, _ in schedule_of(config.pruner, config.train.epochs).kinds)


def _gb(count: int) -> str:
    return f"{count / 10**9:.1f}"
