"""Results -> one ``Block``, a main table, for each framework, model, pool and set of training options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.load import Missing, Results, Run
from analysis.rows import Column, Row, build_rows, column_notes, columns_of
from analysis.setting import differing

BlockKey = tuple[str, str, str, str, str]
"""Framework, model, pool, training options as JSON, fingerprint of the pool."""


@dataclass(frozen=True)
class Block:
    """One main table."""

    key: BlockKey
    note: str
    """What tells it from another block of the same framework, model and pool; mostly empty."""
    columns: tuple[Column, ...]
    column_notes: Mapping[Column, str]
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        return " · ".join([*self.key[:3], *([self.note] if self.note else [])])

    @property
    def runs(self) -> list[Run]:
        return [run for row in self.rows for run in row.runs]


def build_blocks(results: Results) -> list[Block]:
    """Every run and every missing run stands in at least one block."""
    runs: dict[BlockKey, list[Run]] = {}
    for run in sorted(results.runs, key=lambda run: str(run.record["finished"])):
        runs.setdefault((*run.key, run.training, run.record["pool_facts"]["fingerprint"]), []).append(run)
    missing: dict[BlockKey, list[Missing]] = {}
    for one in results.missing:
        for key in _places(one, runs):
            missing.setdefault(key, []).append(one)
    keys = sorted(runs.keys() | missing.keys())
    notes = _notes(keys)
    blocks = []
    for key in keys:
        rows = build_rows(runs.get(key, []), missing.get(key, []), results.methods)
        columns = columns_of(rows)
        blocks.append(Block(key, notes[key], tuple(columns), column_notes(columns), tuple(rows)))
    return blocks


def planned_only(blocks: Iterable[Block]) -> list[str]:
    """A line for each table without a record: its title, and the methods with their numbers of seeds."""
    return [
        f"{block.title}: {', '.join(f'{row.method} × {len(row.missing)}' for row in block.rows)}"
        for block in blocks
        if not block.runs
    ]


def _places(missing: Missing, keys: Iterable[BlockKey]) -> list[BlockKey]:
    """The tables a missing run belongs to, as far as its ``config.yaml`` tells them apart; else its own."""
    own = (missing.framework, missing.model, missing.pool)
    places = [k for k in keys if k[:3] == own and (missing.training is None or k[3] == missing.training)]
    return places or [(*own, missing.training or "{}", "")]


def _notes(keys: Sequence[BlockKey]) -> dict[BlockKey, str]:
    notes = {}
    for key in keys:
        alike = [other for other in keys if other[:3] == key[:3]]
        told = [differing([other[3] for other in alike])[alike.index(key)]]
        if len({other[4] for other in alike if other[4]}) > 1:
            told.append(f"pool fingerprint {key[4] or 'unknown'}")
        notes[key] = ", ".join(text for text in told if text)
    return notes
