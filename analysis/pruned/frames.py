"""What was pruned, as CSV: every run's gallery, classes, visits, losses and churn; raw fractions and counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from analysis.blocks.block import Block
from analysis.pruned.overlap import Overlap
from analysis.pruned.read import Pruning, cycles_at_random, jaccard_at_random
from benchmark.runs.pruned import Pruned

RUN = ["framework", "model", "pool", "setting", "method", "seed"]
Entry = dict[str, Any]


def pruned_frames(
    blocks: Sequence[Block], pruning: Pruning, overlaps: Sequence[Overlap]
) -> dict[str, pd.DataFrame]:
    """By file name, only those that have rows."""
    names = ("gallery", "classes", "visits", "losses", "churn", "cycles")
    rows: dict[str, list[Entry]] = {name: [] for name in names}
    for run, pruned in _runs(blocks, pruning):
        rows["gallery"] += [{**run, **entry} for entry in _gallery(pruned)]
        rows["classes"] += [{**run, **vars(one), "left_out": _share(one, pruned)} for one in pruned.classes]
        rows["visits"] += [{**run, "visits": i, "samples": n} for i, n in enumerate(pruned.visits_histogram)]
        rows["losses"] += [{**run, **entry} for entry in _losses(pruned)]
        rows["cycles"] += [{**run, **entry} for entry in _cycles(pruned)]
        rows["churn"] += [{**run, **entry} for entry in _churn(pruned)]
    rows["overlap"] = [one.row() for one in overlaps]
    return {f"pruned_{name}": pd.DataFrame(found) for name, found in rows.items() if found}


def _runs(blocks: Sequence[Block], pruning: Pruning) -> Iterator[tuple[Entry, Pruned]]:
    for block in blocks:
        told = dict(zip(RUN, (*block.key[:3], block.note), strict=False))
        for method in pruning.methods(block):
            for seed, pruned in sorted(pruning.seeds(block, method).items()):
                yield {**told, "method": method, "seed": seed}, pruned


def _share(one: Any, pruned: Pruned) -> float:
    return 1 - one.visits / (one.samples * pruned.epochs)


def _gallery(pruned: Pruned) -> Iterator[Entry]:
    for sample in pruned.gallery:
        losses = " ".join(f"{epoch}:{loss:g}" for epoch, loss in sample.losses)
        yield {**vars(sample), "epochs": pruned.epochs, "losses": losses}


def _losses(pruned: Pruned) -> Iterator[Entry]:
    edges = pruned.loss_edges
    for one in pruned.preparations:
        for kind, counts in sorted(one.histograms.items()):
            for low, high, count in zip(edges, edges[1:], counts, strict=False):
                yield {"epoch": one.epoch, "kind": kind, "from": low, "to": high, "samples": count}


def _cycles(pruned: Pruned) -> Iterator[Entry]:
    kinds = {kind for one in pruned.preparations for kind in one.counts}
    for kind, counts in sorted(pruned.cycles.items()):
        chance = cycles_at_random(pruned, kind) * pruned.num_samples if kind in kinds else [None] * len(counts)
        for times, (samples, at_random) in enumerate(zip(counts, chance, strict=True)):
            yield {"kind": kind, "preparations": times, "samples": samples, "samples_at_random": at_random}


def _churn(pruned: Pruned) -> Iterator[Entry]:
    before: dict[str, int] = {}
    for one in pruned.preparations:
        for kind, count in one.counts.items():
            chance = jaccard_at_random(before[kind], count, pruned.num_samples) if kind in before else None
            told = {"epoch": one.epoch, "kind": kind, "candidates": count, "jaccard": one.jaccard[kind]}
            yield {**told, "jaccard_at_random": chance}
        before = dict(one.counts)
