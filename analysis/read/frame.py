"""All that records measured, as one tidy table: ``from analysis import load``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.read import results
from analysis.read.methods import pruner_of
from analysis.read.setting import evaluation_of

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("sweep", "run", "framework", "model", "pool", "seed", "method", "pruner", "options", "training"),
    *("task", "dataset", "metric", "protocol", "evaluation", "value", "n", "low", "high"),
    *("pruned", "samples", "seconds"),
)


def load(folder: str | Path = "results", sweeps: Sequence[str] = ()) -> pd.DataFrame:
    """A row a (run, metric), with ``COLUMNS`` as docs/results.md tells them; ``attrs["missing"]`` names the runs
    that were asked for and have no record.

    Of the named sweeps, or of all but those that say ``compare: false``. A run of two sweeps stands there once.
    What cannot be read is left out with a warning. Raises ValueError where there is nothing to read.
    """
    import pandas as pd

    found = results.load(Path(folder), [sweeps] if isinstance(sweeps, str) else sweeps)
    for problem in found.problems:
        warnings.warn(f"{problem.where}: {problem.message}", stacklevel=2)
    frame = pd.DataFrame([row for run in found.runs for row in _rows(run)], columns=list(COLUMNS))
    frame.attrs["missing"] = [missing.run for missing in found.missing]
    return frame


def _rows(run: results.Run) -> Iterator[dict[str, Any]]:
    record, (pruner, options) = run.record, pruner_of(run)
    evaluate, training = json.dumps(record["config"].get("evaluate")), record["training"]
    told = {key: record[key] for key in ("sweep", "run", "framework", "model", "pool", "seed", "method")}
    told |= {"pruner": pruner, "options": json.dumps(options, sort_keys=True), "training": run.training}
    took = {
        "pruned": training["pruning_rate"],
        "samples": training["samples_seen"],
        "seconds": training["seconds"],
    }
    for metric in record["metrics"]:
        low, high = metric["ci95"]
        where = {key: metric[key] for key in ("task", "dataset", "metric", "protocol")}
        measured = {"value": metric["value"], "n": metric["n"], "low": low, "high": high}
        evaluation = evaluation_of(evaluate, metric["task"], metric["dataset"])
        yield {**told, **where, "evaluation": evaluation, **measured, **took}
