"""A run that stands in two sweeps: taken over, or trained twice. It counts once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.read.results import Run


def once(runs: Sequence[Run]) -> tuple[list[Run], int, list[tuple[str, str]]]:
    """Each run once; how many plans name a run that is left out here; and records not used, each with why.

    Of two records of one run that agree the one with more metrics holds, of equals the last that finished. If they
    disagree the first holds, and the other is told.
    """
    kept: dict[tuple[str, ...], Run] = {}
    doubled = 0
    unused = []
    for run in runs:
        key = run.folder.name, run.training, run.record["pool_facts"]["fingerprint"]
        known = kept.get(key)
        if known is None:
            kept[key] = run
            continue
        doubled += known.planned and run.planned
        held = known
        if os.path.abspath(known.folder) != os.path.abspath(run.folder):
            if differs := _difference(known.record, run.record):
                said = f"the same run as {known.folder.record}, with {differs}; that one is used"
                unused.append((str(run.folder.record), said))
            else:
                held = max((known, run), key=_fullness)
        kept[key] = replace(held, planned=known.planned or run.planned)
    return list(kept.values()), doubled, unused


def _fullness(run: Run) -> tuple[int, str]:
    return len(run.record["metrics"]), str(run.record["finished"])


def _difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """What two records of one run disagree in; "" where they do not."""
    old, new = (
        {(m["task"], m["dataset"], m["metric"], m["protocol"]): m["value"] for m in record["metrics"]}
        for record in (first, second)
    )
    told = [f"another {' '.join(key)}" for key in old if new.get(key, old[key]) != old[key]][:1]
    if len({first.get("weights"), second.get("weights")} - {None}) > 1:
        told.append("other weights")
    return " and ".join(told)
