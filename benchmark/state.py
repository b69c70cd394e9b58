"""A run's state, derived from its folder and never stored: done, partial, failed, absent, running, unreadable."""

from __future__ import annotations

import json
import logging
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.checkpoint import FINAL_FILE
from benchmark.config import Choice, RunConfig
from benchmark.featureconfig import FeatureConfig, JobConfig
from benchmark.files import write_text
from benchmark.lease import is_held
from benchmark.options import plain
from benchmark.record import ERROR_FILE, FEATURES_FILE, RECORD_FILE, STARTED_FILE, RecordError, read_record

logger = logging.getLogger(__name__)
LEASE_FILE = "job/run.lock"


@dataclass(frozen=True)
class State:
    """``name`` is one of the words above; ``detail`` is for people."""

    name: str
    detail: str = ""

    @property
    def words(self) -> str:
        """``done (incomplete: 1 task skipped)``: the name, with the detail where a run is done all the same."""
        return f"{self.name} ({self.detail})" if self.is_incomplete else self.name

    @property
    def is_incomplete(self) -> bool:
        """Done, but without an evaluation whose data was missing."""
        return self.name == "done" and bool(self.detail)


def state_of(folder: Path, config: JobConfig) -> State:
    """*running* if a process works in the run's folder, else ``state_at_rest``."""
    return State("running") if is_held(folder / LEASE_FILE) else state_at_rest(folder, config)


def state_at_rest(folder: Path, config: JobConfig) -> State:
    """What a run's files say.

    *done*: the record is valid and holds every evaluation asked for, or says why one was skipped. *failed*: the
    run's own error is its newest word. *partial*: a checkpoint is there. *unreadable*: there is a record that is
    not of this schema.
    """
    if isinstance(config, FeatureConfig):
        return _state_of_features(folder)
    try:
        record = read_record(folder / RECORD_FILE)
    except FileNotFoundError:
        record = None
    except RecordError as error:
        return State("unreadable", str(error))
    if record is not None and not left_out(record, config):
        skipped = len(skipped_tasks(record, config))
        return State("done", f"incomplete: {skipped} task{'s' * (skipped > 1)} skipped" if skipped else "")
    if has_new_error(folder):
        return State("failed", error_message(folder))
    if has_weights(folder) or any((folder / "checkpoint").glob("step-*.sha256")):
        return State("partial", "" if record is None else "evaluation is missing")
    return State("absent")


def _state_of_features(folder: Path) -> State:
    if (folder / FEATURES_FILE).exists():
        return State("done")
    if has_new_error(folder):
        return State("failed", error_message(folder))
    return State("partial" if any(folder.glob("chunks/*.npz")) else "absent")


def has_record(folder: Path) -> bool:
    """Whether a run has left its record (a pass over features its facts), and all that others take from it."""
    return (folder / RECORD_FILE).exists() or (folder / FEATURES_FILE).exists()


def has_new_error(folder: Path) -> bool:
    """Whether this attempt, or the last one, has left an error."""
    error_time = _time(folder / ERROR_FILE)
    return error_time > 0 and error_time >= _time(folder / STARTED_FILE)


def write_error(folder: Path, error: BaseException, where: str = "") -> None:
    """Leave the error with its traceback in the run's folder; ``where`` opens the message."""
    content = {
        "type": type(error).__name__,
        "message": f"{where}{error}",
        "traceback": "".join(traceback.format_exception(error)),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    try:
        write_text(folder / ERROR_FILE, json.dumps(content, indent=1) + "\n")
    except OSError as second:  # a full disk, say: the first error is the one to show
        logger.error("%s cannot be written: %s", folder / ERROR_FILE, second)


def error_message(folder: Path) -> str:
    """First line of the error a run left, or a word that it cannot be read."""
    try:
        content = json.loads((folder / ERROR_FILE).read_text(encoding="utf-8"))
        return f"{content['type']}: {str(content['message']).splitlines()[0]}"
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return f"{ERROR_FILE} cannot be read"


def left_out(record: dict[str, Any], config: RunConfig) -> list[Choice]:
    """The evaluations asked for that the run's record does not know of."""
    done = record["config"].get("evaluate", [])
    return [task for task in config.evaluate if plain(asdict(task)) not in done]


def skipped_tasks(record: dict[str, Any], config: RunConfig) -> list[tuple[Choice, dict[str, Any]]]:
    """The evaluations asked for that the record skipped, each with its entry there."""
    entries = skipped_entries(record)
    return [
        (task, entry)
        for task in config.evaluate
        for entry in entries
        if entry["task"] == task.name and entry.get("options") == plain(task.options)
    ]


def skipped_entries(record: dict[str, Any]) -> list[dict[str, Any]]:
    """A record's skipped evaluations with their options.

    Older records tell the task's name alone, in the order of the evaluations: it is the next one of that name that
    has no rows.
    """
    found: list[dict[str, Any]] = []
    for entry in record["evaluation_skipped"]:
        if "options" not in entry:
            same = [e for e in record["config"].get("evaluate", []) if e["name"] == entry["task"]]
            taken = [known.get("options") for known in found if known["task"] == entry["task"]]
            free = [e["options"] for e in same if e["options"] not in taken and not _has_rows(record, e)]
            entry = {**entry, "options": free[0]} if free else entry
        found.append(entry)
    return found


def _has_rows(record: dict[str, Any], evaluation: dict[str, Any]) -> bool:
    asked = evaluation["options"].get("dataset", "")
    name = next(iter(asked)) if isinstance(asked, dict) else asked
    rows = [row["dataset"] for row in record["metrics"] if row["task"] == evaluation["name"]]
    return any(row == name or row.startswith(f"{name}-") for row in rows)


def has_weights(folder: Path) -> bool:
    """Whether a run's final weights are there: then it can be evaluated without training."""
    return (folder / "checkpoint" / FINAL_FILE).exists()


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
