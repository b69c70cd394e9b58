"""What methods pruned, against planted truth: ``pruning_truth`` of the records -> rows with their seed counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.blocks.block import Block
from analysis.blocks.rows import Row
from analysis.blocks.statistics import Spread, spread
from analysis.blocks.words import Shown, percent, shown

SHARES = ("base_rate", "precision", "recall", "auc")
AT_RANDOM = {"precision": "random_precision", "recall": "random_recall"}
"""What as many samples drawn at random would have; older records do not hold it."""

TOLD = (
    "Precision: of the samples left out over all epochs, the share that was planted.",
    "Recall: of the planted samples, the share left out in an epoch that prunes, on average.",
    '"random" stands under both: what as many samples drawn at random have on average. For a flag that is the base'
    " rate, and the share left out in an epoch.",
    "near_duplicate flags copies and not their originals, which no method can tell apart. redundant_copy does"
    " not ask which of them goes: of a group of near-duplicates all but one count, whichever stays. Chance"
    " meets more of those, since either of a pair will do.",
    "AUC: the chance that a flagged sample's last loss is above another's; 50 tells nothing. Only methods that"
    " look at losses have one, and only for a flag.",
    "Candidates: the planted share of what the method would leave out at the end, by its reason.",
)
"""How to read the tables."""


@dataclass(frozen=True)
class TruthRow:
    """One method and one planted flag; a share that no record has is None."""

    method: str
    flag: str
    base_rate: Spread | None
    precision: Spread | None
    recall: Spread | None
    auc: Spread | None
    at_random: Mapping[str, Spread | None]
    """By name of the share it stands beside."""
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
    at_random = {name: _over_seeds(entry.get(key) for entry in entries) for name, key in AT_RANDOM.items()}
    return TruthRow(row.method, flag, at_random=at_random, candidates=candidates, by_seed=entries, **shares)


def _over_seeds(values: Any) -> Spread | None:
    return spread(value for value in values if value is not None)


def kinds_of(rows: Sequence[TruthRow]) -> list[str]:
    """The kinds of candidates of all rows."""
    return sorted({kind for row in rows for kind in row.candidates})


def truth_heads(kinds: Sequence[str]) -> list[tuple[str, ...]]:
    """The lines over each column but those of the method and the flag."""
    fixed = [("base rate", "%"), ("precision", "%"), ("recall", "%"), ("AUC of the loss", "%")]
    return [*fixed, *((f"candidates: {kind}", "%") for kind in kinds)]


def truth_cells(row: TruthRow, kinds: Sequence[str]) -> list[Shown]:
    """The row's cells in the order of ``truth_heads``."""
    values = [getattr(row, name) for name in SHARES] + [row.candidates.get(kind) for kind in kinds]
    reasons = ["", "nothing pruned", "nothing pruned", "none", *("no candidates" for _ in kinds)]
    chance = [row.at_random.get(name) for name in SHARES] + [None for _ in kinds]
    return [
        shown(value, percent, (f"random {percent(by_chance.mean)}",) if by_chance else ()) if value else Shown(why)
        for value, by_chance, why in zip(values, chance, reasons, strict=True)
    ]
