"""Records grouped by what is equal: code, versions and device; in a group a row a method and configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.blocks.words import code_version
from analysis.read.results import Run
from benchmark.runs.folder import RunFolder


@dataclass(frozen=True)
class Link:
    """A record of a row."""

    seed: int
    href: str
    """Its file as seen from the report; empty where there is no way."""
    planned: bool
    anchor: str
    """Of the row."""


@dataclass(frozen=True)
class Row:
    method: str
    framework: str
    model: str
    pool: str
    sweep: str
    anchor: str
    runs: tuple[Link, ...]


@dataclass(frozen=True)
class Group:
    told: str
    rows: tuple[Row, ...]


def provenance(
    runs: Sequence[Run], way_to: Callable[[Path], str]
) -> tuple[list[Group], dict[RunFolder, tuple[Row, Link]]]:
    """The groups, the largest first, and where each run stands in them."""
    groups: dict[str, dict[tuple[str, ...], list[Run]]] = {}
    for run in runs:
        key = (run.record["method"], *run.key, run.record["sweep"])
        groups.setdefault(_made_with(run), {}).setdefault(key, []).append(run)
    found: list[Group] = []
    places: dict[RunFolder, tuple[Row, Link]] = {}
    number = 0
    for told, by_row in sorted(groups.items(), key=lambda item: -sum(map(len, item[1].values()))):
        rows = []
        for (method, framework, model, pool, sweep), own in by_row.items():
            anchor = f"run-{number}"
            number += 1
            own = sorted(own, key=lambda run: run.record["seed"])
            links = [Link(run.record["seed"], way_to(run.folder.record), run.planned, anchor) for run in own]
            rows.append(Row(method, framework, model, pool, sweep, anchor, tuple(links)))
            places |= {run.folder: (rows[-1], link) for run, link in zip(own, links, strict=True)}
        every = [run for own in by_row.values() for run in own]
        found.append(Group(f"{len(every)} records: {told}; finished {_dates(every)}", tuple(rows)))
    return found, places


def _dates(runs: Sequence[Run]) -> str:
    dates = sorted(str(run.record["finished"])[:10] for run in runs)
    return dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"


def _made_with(run: Run) -> str:
    record = run.record
    ranks = record["num_ranks"]
    versions = ", ".join(
        f"{name} {record['versions'][name]}" for name in ("torch", "python") if name in record["versions"]
    )
    device = record["device"] + (f" × {ranks}" if ranks > 1 else "")
    return f"code {code_version(record['code'])}, {versions or 'versions unknown'}, {device}"
