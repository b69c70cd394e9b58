"""Which of the evaluations asked for a record holds, lacks or skipped."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmark.config.run import Choice, RunConfig
from benchmark.options import plain


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
