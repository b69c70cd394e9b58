"""A sweep becomes runs: every option checked and every method built at the desk, states read from disk."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.config.choice_pass import ChoiceConfig
from benchmark.config.evaluation import evaluation_of
from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.identity import identity_of, label_of
from benchmark.config.job import JobConfig
from benchmark.config.run import Choice, RunConfig, resolved
from benchmark.config.sweepfile import Sweep
from benchmark.evaluate.task import make_task
from benchmark.files import sealed, unsealed_text, write_text, write_texts
from benchmark.models.frameworks import resolve_model
from benchmark.options import ConfigError
from benchmark.plan.checks import check_batch, check_grid, check_memory, check_reference
from benchmark.plan.choice_pass import choice_for
from benchmark.plan.feature_pass import features_for, name_in_identity
from benchmark.plan.selectors import Named, Wish, find_runs, unmet
from benchmark.plan.spread import spread
from benchmark.pool.source import choice_of, make_source
from benchmark.pruner import Pruner, make_pruner
from benchmark.runs.folder import PLAN_FILE, RunFolder
from benchmark.runs.state import State, has_checkpoint, has_record, has_weights, state_at_rest, state_of
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
    for grid in map(spread, sweep.grids):
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
            *before, config = _configs_of(sweep.name, wish, named)
            samples = make_source(wish.pool, wish.grid.where).expected_samples()
            after = evaluation_of(config) if isinstance(config, RunConfig) else []
            for one in (*before, config, *after):
                if one.name not in runs:
                    folder = RunFolder(results / sweep.name / one.name)
                    size = samples if one not in after else None  # it reads none of the pool
                    runs[one.name] = PlannedRun(one, folder, state_of(folder, one), size)
            if runs[config.name].config != config:
                raise ConfigError(
                    f"{wish.grid.where}: asks for the same training as an earlier grid ({config.name}) with"
                    " another evaluation, launch or target: name it in one grid"
                )
        if len(later) == len(waiting):
            raise ConfigError(unmet(later[0], runs.values()))
        waiting = later
    return _settled(list(runs.values()))


def _settled(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Say of each run that is not done where it can be taken over from; leave out what is not done for nobody.

    The last comes first: what an earlier one has to leave depends on those that wait for it and are not done. A
    pass or a choice that nobody waits for any more is none of the plan's.
    """
    found: list[PlannedRun] = []
    takers: dict[str, list[JobConfig]] = {}
    for run in reversed(runs):
        known = takers.get(run.config.name, [])
        is_idle = not known and isinstance(run.config, FeatureConfig | ChoiceConfig)
        if run.state.name not in OWN and not has_record(run.folder):
            if origin := find_origin(run.folder, run.config, known):
                run = replace(run, origin=origin)
                run = replace(run, state=run.read_state())
            elif is_idle:
                continue
        elif run.state.name == "unreadable" and is_idle:  # taken over from one that has lost what it gave
            continue
        for name in _needs(run):
            takers.setdefault(name, []).append(run.config)
        found.append(run)
    names = {run.config.name for run in found}
    return [replace(run, config=_less(run.config, names)) for run in reversed(found)]


def _needs(run: PlannedRun) -> list[str]:
    """What has to be there before a run, a pass or a choice can come to its end.

    A run that goes on from a checkpoint needs no choice: the checkpoint holds it, also that of a run that began
    before choices were jobs.
    """
    config, home = run.config, run.origin or run.folder
    if run.state.name in ("done", "unreadable") or (has_record(home) and has_weights(home)):
        return []
    held = config.choice if isinstance(config, RunConfig) and has_checkpoint(home) else None
    return [name for name in config.waits_for if name != held]


def _less(config: JobConfig, names: set[str]) -> JobConfig:
    """The configuration without what it waits for and is not in ``names``."""
    waits_for = tuple(name for name in config.waits_for if name in names)
    if isinstance(config, RunConfig) and config.choice not in names:
        config = replace(config, choice=None)
    return replace(config, waits_for=waits_for)


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


def _configs_of(sweep: str, wish: Wish, named: Named) -> list[JobConfig]:
    """What a wish takes: the pass and the choice that its run waits for, where it does, and last the run."""
    grid, pruner = wish.grid, wish.pruner
    features = features_for(sweep, wish, named)
    label = label_of(pruner.name, make_pruner(pruner, f"{grid.where}.pruner"), named.shown_as)
    method = make_pruner(Choice(name=pruner.name, options={**pruner.options, **named.options}), grid.where)
    if method.uses_truth:
        label += " (sees planted truth)"
    if method.reference_data is not None:
        label += " (uses reference data)"
        check_reference(grid, method)
    source = make_source(wish.pool, f"{grid.where}.pool")
    if method.uses_truth and not source.has_truth:
        raise ConfigError(
            f"{grid.where}.pruner.{pruner.name}: leaves out planted samples, and {source.label} has none:"
            " give the pool a plant"
        )
    check_batch(grid, method, source.expected_samples())
    choice = choice_for(sweep, wish, named, features, method, label)
    before = [config for config in (features, choice) if config is not None]
    config = _run_config(sweep, wish, named, method, label, features, choice)
    check_memory(config, grid.where)
    return [*before, config]


def _run_config(
    sweep: str,
    wish: Wish,
    named: Named,
    method: Pruner,
    label: str,
    features: FeatureConfig | None,
    choice: ChoiceConfig | None,
) -> RunConfig:
    grid, pool, pruner, seed = wish.grid, wish.pool, wish.pruner, wish.seed
    source = make_source(pool, f"{grid.where}.pool")
    model = resolve_model(grid.framework, wish.model, grid.where)
    parts = {"framework": grid.framework, "model": model, "pool": source, "pruner": method, "seed": seed}
    names = {"pool_name": pool.name, "pruner_name": pruner.name}
    if features is not None:
        names["features"] = name_in_identity(wish, named.needs, features)
    if choice is not None and choice.seed != seed:  # else it is what the run would choose by itself
        names["choice"] = choice.name
    return RunConfig(
        sweep=sweep,
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
        waits_for=named.waits_for + tuple(config.name for config in (features, choice) if config is not None),
        features=features.name if features else None,
        choice=choice.name if choice else None,
        log=grid.log,
    )
