"""What methods pruned, against planted truth: ``pruning_truth`` of the records -> rows with their seed counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.rows import Row
from analysis.statistics import Spread, spread
from analysis.tables import Block

SHARES = ("base_rate", "precision", "recall", "auc")


@dataclass(frozen=True)
class TruthRow:
    """One method and one planted flag; a share that no record has is None."""

    method: str
    flag: str
    base_rate: Spread | None
    precision: Spread | None
    recall: Spread | None
    auc: Spread | None
    candidates: Mapping[str, Spread | None]
    """By kind of candidate, the share that carries the flag."""
    by_seed: tuple[Mapping[str, Any], ...]
    """The entries of the records, a seed each."""


def truth_rows(block: Block) -> list[TruthRow]:
    """Flag by flag, the methods in the order of the block's rows."""
    flags = sorted({entry["flag"] for run in block.runs for entry in run.record["pruning_truth"]})
    found = [_truth_row(row, flag) for flag in flags for row in block.rows]
    return [row for row in found if row is not None]


def _truth_row(row: Row, flag: str) -> TruthRow | None:
    by_seed = {
        run.record["seed"]: entry
        for run in row.runs
        for entry in run.record["pruning_truth"]
        if entry["flag"] == flag
    }
    entries = tuple(by_seed.values())
    if not entries:
        return None
    kinds = sorted({kind for entry in entries for kind in entry["candidates"]})
    shares = {name: _over_seeds(entry[name] for entry in entries) for name in SHARES}
    candidates = {kind: _over_seeds(entry["candidates"].get(kind) for entry in entries) for kind in kinds}
    return TruthRow(row.method, flag, candidates=candidates, by_seed=entries, **shares)


def _over_seeds(values: Any) -> Spread | None:
    return spread(value for value in values if value is not None)
