"""A run that stands in two sweeps: taken over, or trained twice. It counts once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.read.results import Run


def once(runs: Sequence[Run]) -> tuple[list[Run], int, list[tuple[str, str]]]:
    """Each record once; how many plans name a run that is left out here; and records not used, each with why.

    Two records of one run that agree both stay: tables count a seed once. If they disagree the first holds.
    """
    kept: list[Run] = []
    places: dict[str, int] = {}
    firsts: dict[tuple[str, ...], int] = {}
    doubled = 0
    unused = []
    for run in runs:
        path = os.path.abspath(run.folder)
        key = run.folder.name, run.training, run.record["pool_facts"]["fingerprint"]
        first = kept[firsts[key]] if key in firsts else None
        if first and path not in places and (differs := _difference(first.record, run.record)):
            said = f"the same run as {first.folder.record}, with {differs}; that one is used"
            unused.append((str(run.folder.record), said))
            places[path] = firsts[key]
        if path in places:
            known = kept[places[path]]
            doubled += known.planned and run.planned
            kept[places[path]] = replace(known, planned=known.planned or run.planned)
            continue
        firsts.setdefault(key, len(kept))
        places[path] = len(kept)
        kept.append(run)
    return kept, doubled, unused


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
