"""Evaluating a model: tasks -> rows, skipped tasks and predictions; and adding them to a run's record.

A task whose data is absent is skipped with the reason; the run can be evaluated on it later, from its final
weights, without training.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmark import dist
from benchmark.config.run import Choice, RunConfig
from benchmark.evaluate.cache import CachedEncoder
from benchmark.evaluate.means import Means, stop_together
from benchmark.evaluate.task import Task, make_task
from benchmark.models import weights_file
from benchmark.models.encoder import Encoder
from benchmark.models.fingerprints import weights_hash
from benchmark.models.frameworks import make_objective
from benchmark.models.objective import Objective
from benchmark.options import ConfigError, plain
from benchmark.pool.samples import PoolError
from benchmark.runs import predictions
from benchmark.runs.evaluations import skipped_entries
from benchmark.runs.folder import RunFolder
from benchmark.runs.predictions import Predictions, PredictionsError
from benchmark.runs.record import RecordError, read_record, write_record

logger = logging.getLogger(__name__)

Report = Callable[[float, str], None]


@dataclass
class Outcome:
    """What some evaluations of one model gave."""

    evaluated: list[Choice] = field(default_factory=list)
    """All that were asked for, the skipped ones too."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[Predictions] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """What each of them took."""

    def add(self, other: Outcome) -> None:
        for f in fields(self):
            getattr(self, f.name).extend(getattr(other, f.name))


def evaluate(
    choices: Sequence[Choice], encoder: Encoder, cache: Path | None, report: Report, means: Means | None = None
) -> Outcome:
    """Run the tasks one after the other; what they gave, together. See ``each``."""
    found = Outcome()
    for one in each(choices, encoder, cache, report, means):
        found.add(one)
    return found


def each(
    choices: Sequence[Choice], encoder: Encoder, cache: Path | None, report: Report, means: Means | None = None
) -> Iterator[Outcome]:
    """Run the tasks one after the other; what each gave. Features that tasks share are computed once.

    ``cache`` is the folder where they are kept, None for nowhere. ``report`` gets the share of the tasks done.
    All ranks call it, work together and get the same. Raises signals.Stopped on all, between two tasks, chunks of
    features or steps of training, if a signal asked one of them for it.
    """
    for done, choice in enumerate(choices):
        stop_together()
        task = make_task(choice, "evaluate")
        name = f"{choice.name} on {named(task)}"

        def told(items: int, count: int, kind: str, done: int = done, name: str = name) -> None:
            share = items / max(count, 1)
            report((done + 0.9 * share) / len(choices), f"{name}: {items:,} of {count:,} {kind}")

        report(done / len(choices), name)
        yield _outcome(choice, task, name, CachedEncoder(encoder, cache, told, means))
    report(1.0, "evaluated")


def _outcome(choice: Choice, task: Task, name: str, encoder: CachedEncoder) -> Outcome:
    started = time.perf_counter()
    found = Outcome([choice])
    has_data = False
    try:
        _check_data(task)
        has_data = True
        for part in task.parts(encoder):
            found.predictions += predictions.of_metrics(part.metrics, part.fingerprint)
            left_out = part.left_out + sum(encoder.left_out.values())
            more = {"left_out": left_out} if left_out else {}
            found.rows += [metric.row() | more for metric in part.metrics]
            if part.skipped:
                of = {"dataset": plain(part.dataset)}
                found.skipped.append(_skipped(choice, name, part.skipped, part.data_found) | of)
    except PoolError as error:
        found.skipped.append(_skipped(choice, name, str(error), has_data))
    found.seconds.append(round(time.perf_counter() - started, 3))
    return found


def _check_data(task: Task) -> None:
    """Rank 0 opens the data first, which may index it. Raises PoolError on all ranks if it is absent on one."""
    dist.by_rank_zero(task.check_data)
    problem = ""
    try:
        if dist.rank() != 0:
            task.check_data()
    except PoolError as error:
        problem = str(error)
    if problem := next(filter(None, dist.gather_objects(problem)), ""):
        raise PoolError(problem)


def tell_what_will_be_skipped(choices: Sequence[Choice]) -> None:
    """Warn of each task whose data is absent or tells nothing, and why: before the hours of training."""
    for choice in choices:
        task = make_task(choice, "evaluate")
        try:
            task.check_data()
        except PoolError as error:
            logger.warning("%s on %s will be skipped after the training: %s", choice.name, named(task), error)


def _skipped(choice: Choice, name: str, reason: str, data_found: bool) -> dict[str, Any]:
    logger.warning("%s skipped: %s", name, reason)
    return {
        "task": choice.name, "reason": reason, "options": plain(choice.options), "data_found": data_found
    }  # fmt: skip


def named(task: Task) -> str:
    """The data set's name as it was asked for."""
    return task.dataset if isinstance(task.dataset, str) else next(iter(task.dataset))


def load_model(folder: RunFolder, config: RunConfig) -> Objective:
    """The run's model with its final weights, on the CPU. Raises ConfigError if there are none that fit."""
    objective = make_objective(config.framework, config.model, config.seed)
    path = folder.final_weights
    try:
        weights_file.load_weights(path, objective)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no final weights; the run has not finished, or they were removed") from None
    except Exception as error:  # safetensors and torch each raise their own for a damaged file
        raise ConfigError(f"{path}: cannot be loaded ({str(error).splitlines()[0]})") from error
    return objective


def extend_record(
    folder: RunFolder,
    config: RunConfig,
    outcome: Outcome,
    model: Objective,
    facts: Mapping[str, Any],
    has_trained: bool = False,
) -> None:
    """Put the outcome into the run's record, atomically; ``facts`` are code, versions, device and times.

    What was measured by another attempt than the one that ended the training (``has_trained``) is told in
    ``later_evaluations``, an entry an attempt.
    Raises RecordError, and leaves the record alone, if the weights are not those the record was written for.
    """
    path = folder.record
    record = read_record(path)
    check_weights(record, path, model)
    leave_predictions(folder, outcome)
    asked = [plain(asdict(choice)) for choice in outcome.evaluated]
    known = record["config"].get("evaluate", [])
    record["config"] = {**record["config"], "evaluate": known + [one for one in asked if one not in known]}
    record["metrics"] = merged_rows(record["metrics"], outcome.rows)
    record["evaluation_skipped"] = merged_skipped(skipped_entries(record), outcome)
    took = [
        {"task": choice.name, "options": plain(choice.options), "seconds": seconds}
        for choice, seconds in zip(outcome.evaluated, outcome.seconds, strict=True)
    ]
    before = [entry for entry in record.get("evaluation_seconds", []) if not _is_of(entry, outcome.evaluated)]
    record["evaluation_seconds"] = before + took
    if has_trained:
        record["finished"] = facts["finished"]
    else:
        later = record.get("later_evaluations", [])
        same = [one for one in later if one["started"] == facts["started"]]
        tasks = [*(same[0]["tasks"] if same else []), *asked]
        record["later_evaluations"] = [one for one in later if one not in same] + [{"tasks": tasks, **facts}]
    write_record(path, record)


def check_weights(record: Mapping[str, Any], path: Path, model: Objective) -> None:
    """Raise RecordError if the record says that it is of other weights than the model's."""
    found = weights_hash(model)
    if record.get("weights", found) != found:
        raise RecordError(
            f"{path}: written for weights {record['weights']}, but {RunFolder(path.parent).final_weights.name}"
            f" holds {found}: it is damaged, or one of the two comes from another run"
        )


def merged_rows(old: Iterable[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rows; of an old and a new one of the same task, data set, metric and protocol the new one."""
    replaced = {_key(row) for row in new}
    return [row for row in old if _key(row) not in replaced] + list(new)


def merged_skipped(old: Iterable[dict[str, Any]], outcome: Outcome) -> list[dict[str, Any]]:
    """What is still skipped: the old entries of other evaluations, and the new ones."""
    return [entry for entry in old if not _is_of(entry, outcome.evaluated)] + outcome.skipped


def leave_predictions(folder: RunFolder, outcome: Outcome) -> None:
    """Add the outcome's predictions to those in the folder; a file that cannot be read is replaced."""
    path = folder.predictions
    try:
        old = predictions.read_predictions(path)
    except FileNotFoundError:
        old = []
    except PredictionsError as error:
        logger.warning("%s; writing it anew", error)
        old = []
    if outcome.predictions:
        predictions.write_predictions(path, predictions.merged(old, outcome.predictions))


def _key(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return row["task"], row["dataset"], row["metric"], row["protocol"]


def _is_of(entry: Mapping[str, Any], choices: Iterable[Choice]) -> bool:
    """Whether a skipped entry belongs to one of the evaluations."""
    return any(entry["task"] == c.name and entry.get("options") == plain(c.options) for c in choices)
