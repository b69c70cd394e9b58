"""Which runs of a plan to start: those chosen that can, in an order in which they can."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from contextlib import suppress

from benchmark.config.evaluation import EvaluationConfig
from benchmark.evaluate.pending import pending
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.runs import taken_over
from benchmark.runs.lease import HeldError, lease
from benchmark.runs.state import measured
from benchmark.status.standing import is_refused


def choose(plan: Sequence[PlannedRun], patterns: Sequence[str] | None) -> set[str]:
    """Names of the runs that fit one of the patterns, of all they wait for and of the jobs that evaluate these;
    without patterns, of all.

    Raises ConfigError for a pattern that no run fits.
    """
    waits_for = {run.config.name: run.config.waits_for for run in plan}
    if not patterns:
        return set(waits_for)
    names: list[str] = []
    for pattern in patterns:
        fits = fnmatch.filter(waits_for, pattern)
        if not fits:
            raise ConfigError(f"--only '{pattern}' fits no run of this sweep, such as {plan[0].config.name}")
        names += fits
    chosen: set[str] = set()
    while names:
        chosen.add(name := names.pop())
        names += [other for other in waits_for[name] if other not in chosen]
    evaluations = (run.config for run in plan if isinstance(run.config, EvaluationConfig))
    return chosen | {config.name for config in evaluations if config.run.name in chosen}


def take_over(runs: Iterable[PlannedRun]) -> None:
    """Take over from other sweeps what they have done; a run that a process has begun to work on looks itself."""
    for run in runs:
        if run.origin is not None:
            with suppress(HeldError), lease(run.folder.lease):
                taken_over.take_over(run.folder, run.origin)


def to_do(runs: Sequence[PlannedRun], retry: bool, chosen: set[str]) -> list[PlannedRun]:
    """What to start of the chosen, in an order in which every run comes after those it waits for."""
    startable = ("absent", "partial", "stopped", "waiting", "blocked") + (("failed",) if retry else ())
    coming = {run.config.name for run in runs if run.state.name in ("done", "queued", "running")}
    todo = []
    opened: dict[str, bool] = {}
    for run in runs:
        if run.config.name not in chosen:
            continue
        can_start = run.state.name in startable or _lacks_only_data_that_came(run, opened)
        if can_start and not is_refused(run) and coming.issuperset(run.config.waits_for):
            coming.add(run.config.name)
            todo.append(run)
    return todo


def _lacks_only_data_that_came(run: PlannedRun, opened: dict[str, bool]) -> bool:
    """Whether a run that is done can be evaluated on what was missing when it was."""
    found = measured(run.folder, run.config)
    if not run.state.is_incomplete or found is None:
        return False
    return bool(pending(*found, opened))
