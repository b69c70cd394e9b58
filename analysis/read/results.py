"""Reads a tree of results: plans, records, errors -> ``Results``. Nothing missing or unreadable is dropped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.read.doubles import once
from analysis.read.same_pools import read_same_pools
from analysis.read.setting import training_of
from benchmark.config.run import load_sealed
from benchmark.files import unsealed
from benchmark.options import ConfigError
from benchmark.runs.folder import (
    CONTROLS,
    EVALUATION_FILE,
    PLAN_FILE,
    RunFolder,
)
from benchmark.runs.record import RecordError, read_evaluation, read_record
from benchmark.runs.state import has_record, unfinished

NO_COMMAND = "unknown: the sweep has no plan.json"


@dataclass(frozen=True)
class Run:
    """A run with a valid record."""

    record: dict[str, Any]
    folder: RunFolder
    """That of the record: another sweep's where the run is taken over."""
    planned: bool

    @property
    def key(self) -> tuple[str, str, str]:
        """Framework, model and pool."""
        return self.record["framework"], self.record["model"], self.record["pool"]

    @property
    def training(self) -> str:
        return training_of(self.record["config"])


@dataclass(frozen=True)
class Missing:
    """A run that was asked for and has no valid record."""

    sweep: str
    run: str
    framework: str
    model: str
    pool: str
    method: str
    seed: int | None
    state: str
    """``not run``, also with what it waits for, ``partial``, ``failed: …`` or ``unreadable record``."""
    command: str
    training: str | None
    """As ``Run.training``; None where the run has no readable ``config.yaml``."""

    @property
    def short_state(self) -> str:
        return self.state.partition(":")[0]


@dataclass(frozen=True)
class Foreign:
    """A valid evaluation of a model as it is: it has no training here, so it stands in no comparison."""

    evaluation: dict[str, Any]
    path: Path


@dataclass(frozen=True)
class Problem:
    """Something the report could not use, and why."""

    where: str
    message: str


@dataclass(frozen=True)
class Results:
    """All that is known of the sweeps that were read."""

    folder: Path
    sweeps: tuple[str, ...]
    runs: tuple[Run, ...]
    missing: tuple[Missing, ...]
    foreign: tuple[Foreign, ...]
    problems: tuple[Problem, ...]
    num_planned: int
    methods: tuple[str, ...]
    """``full``, then the others in the order of the plans, then those in no plan."""
    digest: str
    """SHA-256 over the records and evaluations that were read."""
    controls: tuple[Foreign, ...] = ()
    """Raw pixels and untrained models; of all sweeps of the folder, whichever were read."""
    left_out: tuple[str, ...] = ()
    """Sweeps that say ``compare: false`` and were not named."""
    same_pools: Mapping[str, str] = field(default_factory=dict)
    """Fingerprint -> the first of the same pool's, as the folder's ``same_pools.yaml`` says."""


@dataclass(frozen=True)
class _Sweep:
    runs: list[Run]
    missing: list[Missing]
    foreign: list[Foreign]
    problems: list[Problem]
    planned: list[dict[str, Any]]


def load(folder: Path, names: Sequence[str] = ()) -> Results:
    """Read the named sweeps, or all but those that say ``compare: false`` (all, if there are no others).

    Raises ValueError if the folder, a named sweep or any content is absent.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; --results names the folder that holds a folder a sweep")
    folders = (path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = sorted(name for name in folders if name != CONTROLS)
    names = list(dict.fromkeys(Path(n).stem if n.endswith((".yaml", ".yml")) else n for n in names))
    left_out = [] if names else [name for name in found if _keeps_apart(folder / name / PLAN_FILE)]
    if left_out == found:
        left_out = []  # nothing else to report
    names = names or [name for name in found if name not in left_out]
    for name in names:
        if name not in found:
            raise ValueError(f"{folder}: no sweep '{name}' there (found: {', '.join(found) or 'none'})")
    sweeps = [_read_sweep(folder / name) for name in names]
    read = [(name, sweep) for name, sweep in zip(names, sweeps, strict=True) if any(vars(sweep).values())]
    if not read:
        raise ValueError(f"{folder}: nothing to report: no plan.json and no record.json in {len(names)} folder(s)")
    runs, doubled, unused = once([run for _, sweep in read for run in sweep.runs])
    planned = [entry for _, sweep in read for entry in sweep.planned]
    foreign = tuple(one for _, sweep in read for one in sweep.foreign)
    problems = [problem for _, sweep in read for problem in sweep.problems]
    problems += [Problem(*told) for told in unused]
    controls = tuple(one for one in _evaluations(folder / CONTROLS, problems) if "control" in one.evaluation)
    return Results(
        folder=folder,
        sweeps=tuple(name for name, _ in read),
        runs=tuple(runs),
        missing=tuple(m for _, sweep in read for m in sweep.missing),
        foreign=foreign,
        controls=controls,
        problems=tuple(problems),
        num_planned=len(planned) - doubled,
        methods=_in_order([e["method"] for e in planned], [run.record["method"] for run in runs]),
        digest=_digest([*(run.folder.record for run in runs), *(one.path for one in (*foreign, *controls))]),
        left_out=tuple(left_out),
        same_pools=read_same_pools(folder),
    )


def _in_order(planned: Iterable[str], found: Iterable[str]) -> tuple[str, ...]:
    names = dict.fromkeys([*planned, *sorted(found)])
    return tuple(sorted(names, key=lambda name: name != "full"))


def _digest(paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


def _read_sweep(folder: Path) -> _Sweep:
    sweep = _Sweep([], [], [], [], [])
    plan = _read_plan(folder / PLAN_FILE, sweep.problems)
    command = NO_COMMAND
    if plan is not None:
        command = str(plan.get("command", NO_COMMAND))
        sweep.planned.extend(plan["runs"])
    asked = {entry["run"]: entry for entry in sweep.planned}
    held = {
        p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".") and _is_run(RunFolder(p))
    }
    for name in [*asked, *sorted(held - asked.keys())]:
        own = RunFolder(folder / name)
        record, state = _read_run(own, sweep.problems)
        if record is not None:
            sweep.runs.append(Run(record, own.trained_in, planned=name in asked))
            known = record["config"].get("evaluate", [])
            if left := [task["name"] for task in _config(own).get("evaluate", []) if task not in known]:
                message = f"its evaluation is not done: {', '.join(left)} missing; the sweep's command goes on"
                sweep.problems.append(Problem(str(own.record), message))
        else:
            if state == "not run":
                state += _waits_for(folder, asked.get(name, {}).get("waits_for", ()))
            sweep.missing.append(_missing(own, asked.get(name), state, command))
    sweep.foreign.extend(_evaluations(folder, sweep.problems))
    return sweep


def _evaluations(folder: Path, problems: list[Problem]) -> list[Foreign]:
    """Those in the folders below, and a problem for each that cannot be read."""
    found = []
    for path in sorted(folder.glob(f"*/{EVALUATION_FILE}")):
        try:
            found.append(Foreign(read_evaluation(path), path))
        except (RecordError, OSError) as error:
            problems.append(Problem(str(path), str(error).removeprefix(f"{path}: ")))
    return found


def _is_run(folder: RunFolder) -> bool:
    """A pass or a choice is none: it leaves no record, and what it holds up is told at the runs that wait."""
    if folder.record.exists():
        return True
    if not any(path.exists() for path in (folder.error, folder.log, folder.config)):
        return False
    return "kind" not in _config(folder)


def _waits_for(folder: Path, names: Iterable[str]) -> str:
    """The first of the runs, passes and choices in ``names`` that is not done, and how it stands; or empty."""
    for name in names:
        if not has_record(RunFolder(folder / name)):
            return f": waits for {name}, {_state(RunFolder(folder / name))}"
    return ""


def _read_plan(path: Path, problems: list[Problem]) -> dict[str, Any] | None:
    """The plan with every field of a run as text (seed: int or None), or None with a problem noted."""
    if not path.exists():
        return None
    try:
        plan = unsealed(json.loads(path.read_text(encoding="utf-8")))
        runs = [_plan_entry(entry) for entry in plan["runs"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problems.append(Problem(str(path), f"not a plan ({type(error).__name__}: {error}); read as if absent"))
        return None
    return {**plan, "runs": runs}


def _keeps_apart(path: Path) -> bool:
    """Whether a plan says ``compare: false``; one that cannot be read is told where it is read."""
    plan = _read_plan(path, [])
    return plan is not None and plan.get("compare") is False


def _plan_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    name = str(entry["run"])
    if not name or Path(name).name != name:
        raise ValueError(f"'{name}' is not the name of a folder")
    texts = {key: str(entry.get(key, "?")) for key in ("framework", "model", "pool", "method")}
    waits_for = [str(one) for one in entry.get("waits_for", ())]
    return {"run": name, "seed": _seed(entry.get("seed")), "waits_for": waits_for, **texts}


def _seed(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _read_run(folder: RunFolder, problems: list[Problem]) -> tuple[dict[str, Any] | None, str]:
    """The record, or None and the run's state."""
    path = folder.record
    try:
        record = read_record(path)
    except FileNotFoundError:
        return None, _state(folder)
    except (RecordError, OSError, ValueError) as error:
        message = str(error).removeprefix(f"{path}: ")
        problems.append(Problem(str(path), message))
        return None, f"unreadable record: {message}"
    home = folder.trained_in
    if record["run"] != home.name:
        message = f"it is the record of {record['run']}, not of this run: move it to where it belongs"
        problems.append(Problem(str(path), message))
        return None, f"unreadable record: {message}"
    if record["sweep"] != home.parent.name:  # a folder that was renamed
        problems.append(Problem(str(path), f"says it is of the sweep '{record['sweep']}'; used all the same"))
    return record, ""


def _state(folder: RunFolder) -> str:
    """As the sweep sees it, in the report's words."""
    state = unfinished(folder)
    told = {
        "absent": "not run",
        "failed": f"failed: {state.detail}",
        "unreadable": f"unreadable record: {state.detail}",
    }
    return told.get(state.name, state.name)


def _retried(command: str) -> str:
    return command if command == NO_COMMAND or "--retry" in command.split() else f"{command} --retry"


def _missing(folder: RunFolder, entry: Mapping[str, Any] | None, state: str, command: str) -> Missing:
    config = _config(folder)
    asked = entry or _entry_of(config, folder.name)
    texts = {key: asked[key] for key in ("run", "framework", "model", "pool", "method")}
    return Missing(
        sweep=folder.parent.name,
        seed=asked["seed"],
        state=state,
        command=_retried(command) if "failed: " in state else command,
        training=training_of(config) if config else None,
        **texts,
    )


def _config(folder: RunFolder) -> dict[str, Any]:
    """The run's ``config.yaml``; empty where it cannot be read."""
    try:
        return load_sealed(folder.config)
    except ConfigError:
        return {}


def _entry_of(config: Mapping[str, Any], run: str) -> dict[str, Any]:
    """What a plan would say of a run, as far as its ``config.yaml`` tells."""
    model = config.get("model")
    return {
        "run": run,
        "framework": str(config.get("framework", "?")),
        "model": str(model.get("name", "?")) if isinstance(model, Mapping) else "?",
        "pool": str(config.get("pool_label", "?")),
        "method": str(config.get("method", "?")),
        "seed": _seed(config.get("seed")),
    }
