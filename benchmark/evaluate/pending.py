"""Which evaluations a run that is trained still lacks; asked where sweeps are planned: it loads no framework."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from benchmark.config.run import Choice, RunConfig, as_choice
from benchmark.evaluate.task import make_task
from benchmark.options import plain
from benchmark.pool.samples import PoolError
from benchmark.pool.source import data_set
from benchmark.runs.evaluations import left_out, skipped_tasks
from benchmark.runs.folder import RunFolder
from benchmark.runs.record import read_record
from benchmark.runs.state import has_weights


def pending(folder: RunFolder, config: RunConfig, opened: dict[str, bool] | None = None) -> list[Choice] | None:
    """The evaluations to add to a run's record from its final weights, without training.

    Those the record does not know of, and those it skipped, or of which it skipped a data set, whose data can be
    opened now. One that failed though its data could be opened is not tried by itself again. None where there is
    no record, or no final weights.
    ``opened`` remembers between runs which data could be. Raises RecordError for a record that cannot be read.
    """
    try:
        record = read_record(folder.record)
    except FileNotFoundError:
        return None
    if not has_weights(folder):
        return None
    opened = {} if opened is None else opened
    found = left_out(record, config)
    for task, entry in skipped_tasks(record, config):
        is_told = entry.get("data_found", False) or task in found
        if not is_told and _is_data_there(task, entry.get("dataset"), opened):
            found.append(task)
    return found


def _is_data_there(choice: Choice, dataset: Any, opened: dict[str, bool]) -> bool:
    """Of a task, or of the one further data set of it that was skipped."""
    name = json.dumps(plain([asdict(choice), dataset]), sort_keys=True)
    if name not in opened:
        try:
            if dataset is None:
                make_task(choice, "evaluate").check_data()
            else:
                data_set(as_choice(dataset, "evaluate"), "evaluate").test_set()
            opened[name] = True
        except PoolError:
            opened[name] = False
    return opened[name]
