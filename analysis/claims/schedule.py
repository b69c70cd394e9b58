"""What SCAN's schedule leaves out: by arithmetic, without any training, and in the epochs of a record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from analysis.blocks.words import percent
from analysis.claims.settings import PaperConfiguration
from analysis.read.methods import published_options


def share_of_run(epochs: int, warmup: int, candidates: float, cycle: int) -> float:
    """Share of ``epochs`` full epochs that is left out if ``warmup`` of them come before the first preparation.

    ``candidates`` is their share of the pool. Mutation epoch t of ``cycle`` drops (1 - cos(pi t / cycle)) / 2 of
    them (SCAN, rho_cur), a preparation epoch (t = 0) none; the last cycle is cut off where the run ends.
    """
    phases = [epoch % (cycle + 1) for epoch in range(epochs - warmup)]
    return candidates * sum((1 - math.cos(math.pi * phase / cycle)) / 2 for phase in phases) / epochs


def share_in_cycle(candidates: float, cycle: int) -> float:
    """The same over one whole cycle, its preparation epoch included: half of the candidates."""
    return share_of_run(cycle + 1, 0, candidates, cycle)


def measured_in_cycles(record: Mapping[str, Any], cycle: int) -> float | None:
    """Share of the samples left out over all whole cycles of a run of SCAN; None where it has none."""
    kept = [epoch["kept"] for epoch in record["training"]["by_epoch"]]
    first = next((i for i, count in enumerate(kept) if count < kept[0]), 0)  # the mutation after a preparation
    length = (len(kept) - first + 1) // (cycle + 1) * (cycle + 1)
    if not first or not length:
        return None
    return 1 - sum(kept[first - 1 : first - 1 + length]) / (length * kept[0])


def told_by_schedule(paper: Iterable[PaperConfiguration], bounds: tuple[float, float]) -> list[str]:
    """Both readings of the pruned share at the published settings, each beside the claimed ``bounds``."""
    runs, cycles = [], []
    for (framework, epochs), ends in {(one.framework, one.epochs): one.warmup_ends for one in paper}.items():
        options = published_options(framework)
        candidates, cycle = options["redundant_share"] + options["ill_matched_share"], options["cycle"]
        least, most = sorted(share_of_run(epochs, warmup, candidates, cycle) for warmup in ends)
        warmup = f"warm-up of {ends[1]} to {ends[0]}"
        runs.append(
            f"{framework} {percent(least)} to {percent(most)} % of {epochs} epochs ({warmup}),"
            f" {_place((least, most), bounds)}"
        )
        mean = share_in_cycle(candidates, cycle)
        cycles.append(f"{framework} {percent(mean)} %, {_place((mean, mean), bounds)}")
    return [
        f"by the schedule alone, over a run at most: {'; '.join(runs)}",
        f"by the schedule alone, within a cycle: {'; '.join(cycles)}",
    ]


def _place(span: tuple[float, float], bounds: tuple[float, float]) -> str:
    slack = 1e-9  # of sums of cosines
    if bounds[0] - slack <= span[0] and span[1] <= bounds[1] + slack:
        return "as claimed"
    return "not as claimed" if span[1] < bounds[0] - slack or span[0] > bounds[1] + slack else "partly as claimed"
