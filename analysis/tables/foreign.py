"""Evaluations of models that this suite did not train -> the rows of a table of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from analysis.blocks.controls import Controls
from analysis.blocks.words import BELOW_PIXELS, code_version, nats, percent, whole
from analysis.read.results import Foreign
from benchmark.runs.record import NATS

NOTE = (
    "Models evaluated as they are, with published weights or with those of a file. They were not trained here, on"
    " none of these pools and by none of these methods: they stand beside the main tables, in no comparison."
)
HEADS = (
    "model",
    "weights",
    "task",
    "data set",
    "metric",
    "%",
    "95 % over test items",
    "items",
    "protocol",
    "code",
)


@dataclass(frozen=True)
class ForeignRow:
    """One metric of one model, in the words of the table; or a task that was skipped, with the reason as value."""

    cells: tuple[str, ...]
    is_skipped: bool = False


def foreign_rows(foreign: Iterable[Foreign], controls: Iterable[Foreign] = ()) -> list[ForeignRow]:
    """A row a metric, then a row a skipped task, in the order of ``HEADS``; ``controls`` are the results'."""
    held = Controls(controls)
    rows = []
    for one in foreign:
        told = one.evaluation
        name = (f"{told['model']} ({told['pretrained']})", told["weights"].removeprefix("sha256:")[:12])
        for metric in told["metrics"]:
            number, unit = (nats, " nats") if metric["metric"] in NATS else (percent, "")
            low, high = metric["ci95"]
            pixels = held.pixels(metric)
            mark = "" if pixels is None or metric["value"] >= pixels else f", {BELOW_PIXELS} ({percent(pixels)})"
            what = (metric["task"], metric["dataset"], metric["metric"], number(metric["value"]) + unit + mark)
            measured = (f"[{number(low)}, {number(high)}]", whole(metric["n"]), metric["protocol"])
            rows.append(ForeignRow((*name, *what, *measured, code_version(told["code"]))))
        for skipped in told["evaluation_skipped"]:
            cells = (*name, skipped["task"], "", "", f"skipped: {skipped['reason']}", "", "", "", "")
            rows.append(ForeignRow(cells, is_skipped=True))
    return rows


def foreign_frame(foreign: Iterable[Foreign]) -> pd.DataFrame:
    """A row a metric, fractions and nats raw."""
    keys = ("model", "pretrained", "weights", "device", "finished")
    rows = []
    for one in foreign:
        for metric in one.evaluation["metrics"]:
            low, high = metric["ci95"]
            told = {**{key: one.evaluation[key] for key in keys}, **metric}
            rows.append({**told, "items_ci95_low": low, "items_ci95_high": high})
    columns = ["task", "dataset", "metric", "protocol", "value", "n", "items_ci95_low", "items_ci95_high"]
    return pd.DataFrame(rows, columns=[*keys, *columns]).rename(columns={"n": "test_items"})
