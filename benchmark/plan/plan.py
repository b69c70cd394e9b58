"""A sweep becomes runs: every option checked and every method built at the desk, states read from disk."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.config.feature_pass import FeatureConfig, JobConfig
from benchmark.config.identity import identity_of, label_of
from benchmark.config.run import Choice, RunConfig, resolved
from benchmark.config.sweepfile import Sweep
from benchmark.evaluate.task import make_task
from benchmark.files import sealed, unsealed_text, write_text, write_texts
from benchmark.models.frameworks import resolve_model
from benchmark.options import ConfigError
from benchmark.plan.checks import check_batch, check_grid, check_memory, check_reference
from benchmark.plan.feature_pass import features_for, name_in_identity
from benchmark.plan.selectors import Named, Wish, find_runs, unmet
from benchmark.pool.source import choice_of, make_source
from benchmark.pruner import make_pruner
from benchmark.runs.folder import PLAN_FILE, RunFolder
from benchmark.runs.state import State, has_record, state_at_rest, state_of
from benchmark.runs.taken_over import find_origin

OWN = ("done", "running", "unreadable")
"""States in which a run is not taken over."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep and where it stands."""

    config: JobConfig
    folder: RunFolder
    state: State
    samples: int | None
    """Size of the pool; None where only the data can tell."""
    origin: RunFolder | None = None
    """The folder in another sweep that the run can be taken over from, where nothing is done of it here."""

    def read_state(self) -> State:
        """What the run's folder says, or its origin's where there is one."""
        state = state_of(self.folder, self.config)
        if self.origin is None or self.folder.origin or state.name in OWN:
            return state
        return replace(state_at_rest(self.origin, self.config), origin=self.origin.parent.name)


def make_plan(sweep: Sweep, results: Path) -> list[PlannedRun]:
    """All runs of a sweep, each after those it waits for. Raises ConfigError for any mistake; reads no data."""
    runs: dict[str, PlannedRun] = {}
    waiting = []
    own_models = _own_models(sweep)
    for grid in sweep.grids:
        check_grid(grid)
        for model, pool, pruner, seed in itertools.product(grid.models, grid.pools, grid.pruners, grid.seeds):
            waiting.append(Wish(grid, model, pool, pruner, seed, own_models))
    while waiting:
        later = []
        for wish in waiting:
            named = find_runs(wish, runs.values())
            if named is None:
                later.append(wish)
                continue
            features = features_for(sweep.name, wish, named)
            if features is not None:
                folder = RunFolder(results / sweep.name / features.name)
                samples = make_source(wish.pool, wish.grid.where).expected_samples()
                runs.setdefault(features.name, PlannedRun(features, folder, state_of(folder, features), samples))
            run = _plan_run(sweep, wish, named, features, results)
            known = runs.setdefault(run.config.name, run)
            if known.config != run.config:
                raise ConfigError(
                    f"{wish.grid.where}: asks for the same training as an earlier grid ({run.config.name}) with"
                    " another evaluation, launch or target: name it in one grid"
                )
        if len(later) == len(waiting):
            raise ConfigError(unmet(later[0], runs.values()))
        waiting = later
    return _with_origins(list(runs.values()))


def _with_origins(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Say of each run that is not done where it can be taken over from.

    The last comes first: what an earlier run has to leave depends on those that wait for it and are not done.
    """
    found: list[PlannedRun] = []
    takers: dict[str, list[JobConfig]] = {}
    for run in reversed(runs):
        if not has_record(run.folder):
            known = takers.get(run.config.name, [])
            if run.state.name not in OWN and (origin := find_origin(run.folder, run.config, known)):
                run = replace(run, origin=origin)
                run = replace(run, state=run.read_state())
            else:
                for name in run.config.waits_for:
                    takers.setdefault(name, []).append(run.config)
        found.append(run)
    return found[::-1]


def _own_models(sweep: Sweep) -> dict[str, Choice]:
    """Models that the sweep describes, by name; a name that stands for two of them is left out."""
    models: dict[str, list[Choice]] = {}
    for model in (model for grid in sweep.grids for model in grid.models if model.options):
        known = models.setdefault(model.name, [])
        if model not in known:
            known.append(model)
    return {name: described[0] for name, described in models.items() if len(described) == 1}


def write_plan(runs: Sequence[PlannedRun], sweep: Sweep, results: Path, command: str) -> None:
    """Write each run's ``config.yaml`` and the sweep's ``plan.json``, which the report reads."""
    configs = {run.folder.config: run.config.to_yaml() for run in runs}
    write_texts({path: text for path, text in configs.items() if not _holds(path, text)})
    rows = [
        {
            "run": run.config.name,
            "framework": run.config.framework,
            "model": run.config.model.name,
            "pool": run.config.pool_label,
            "method": run.config.method,
            "seed": run.config.seed,
            "waits_for": list(run.config.waits_for),
        }
        for run in runs
        if isinstance(run.config, RunConfig)
    ]
    told = {} if sweep.compare else {"compare": False}
    plan = {"sweep": sweep.name, "command": command, "runs": rows, **told}
    write_text(results / sweep.name / PLAN_FILE, json.dumps(sealed(plan), indent=1, sort_keys=True) + "\n")


def _holds(path: Path, text: str) -> bool:
    """Whether the file says what the sealed text says; its own seal is whole, or it is older than seals."""
    try:
        return unsealed_text(path.read_text(encoding="utf-8")) == unsealed_text(text)
    except (FileNotFoundError, ValueError):
        return False


def _plan_run(sweep: Sweep, wish: Wish, named: Named, features: FeatureConfig | None, results: Path) -> PlannedRun:
    grid, pool, pruner, seed = wish.grid, wish.pool, wish.pruner, wish.seed
    source = make_source(pool, f"{grid.where}.pool")
    label = label_of(pruner.name, make_pruner(pruner, f"{grid.where}.pruner"), named.shown_as)
    method = make_pruner(Choice(name=pruner.name, options={**pruner.options, **named.options}), grid.where)
    if method.uses_truth:
        label += " (sees planted truth)"
    if method.reference_data is not None:
        label += " (uses reference data)"
        check_reference(grid, method)
    if method.uses_truth and not source.has_truth:
        raise ConfigError(
            f"{grid.where}.pruner.{pruner.name}: leaves out planted samples, and {source.label} has none:"
            " give the pool a plant"
        )
    model = resolve_model(grid.framework, wish.model, grid.where)
    parts = {"framework": grid.framework, "model": model, "pool": source, "pruner": method, "seed": seed}
    names = {"pool_name": pool.name, "pruner_name": pruner.name}
    if features is not None:
        names["features"] = name_in_identity(wish, named.needs, features)
    config = RunConfig(
        sweep=sweep.name,
        framework=grid.framework,
        model=model,
        pool=choice_of(pool.name, source),
        pool_label=source.label,
        pruner=resolved(pruner.name, method),
        method=label,
        seed=seed,
        train=grid.train,
        evaluate=tuple(
            resolved(c.name, make_task(c, f"{grid.where}.evaluate"), as_before=True) for c in grid.evaluate
        ),
        launch=grid.launch,
        identity=identity_of({**parts, **names, "train": grid.train}),
        waits_for=named.waits_for + ((features.name,) if features else ()),
        features=features.name if features else None,
    )
    folder = RunFolder(results / sweep.name / config.name)
    samples = source.expected_samples()
    check_batch(grid, method, samples)
    check_memory(config, grid.where)
    return PlannedRun(config, folder, state_of(folder, config), samples)
