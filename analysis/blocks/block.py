"""Results -> one ``Block``, a main table, for each framework, model, pool and set of training options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from analysis.blocks.controls import Controls
from analysis.blocks.informative import read_rule
from analysis.blocks.rows import Column, Row, build_rows, column_notes, columns_of
from analysis.blocks.statistics import Spread, are_equal
from analysis.read.methods import FULL, shorter
from analysis.read.results import Missing, Results, Run
from analysis.read.setting import differing, is_published, length_of, with_arm

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
    controls: Mapping[str, Mapping[Column, Spread]] = field(default_factory=dict)
    """``untrained`` and ``raw pixels`` -> their values, where probes have them."""
    marks: Mapping[Column, str] = field(default_factory=dict)
    """Columns that take no part in an average, with the reason (``analysis.blocks.informative``)."""

    @property
    def title(self) -> str:
        return " · ".join([*self.key[:3], *([self.note] if self.note else [])])

    @property
    def is_published(self) -> bool:
        """Whether it holds runs of the published arm."""
        return is_published(self.key[0], self.key[3])

    @property
    def runs(self) -> list[Run]:
        return [run for row in self.rows for run in row.runs]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Methods whose seeds agree in every value: a seed that changes nothing is no repetition."""
        return tuple(
            f"{row.method}: its {len(row.runs)} seeds have the same values everywhere; was the seed used?"
            for row in self.rows
            if len(row.runs) > 1 and _are_alike(row)
        )


def build_blocks(results: Results) -> list[Block]:
    """Every run and every missing run stands in at least one block."""
    runs: dict[BlockKey, list[Run]] = {}
    for run in sorted(results.runs, key=lambda run: str(run.record["finished"])):
        fingerprint = run.record["pool_facts"]["fingerprint"]
        pool = results.same_pools.get(fingerprint, fingerprint)
        runs.setdefault((*run.key, run.training, pool), []).append(run)
    missing: dict[BlockKey, list[Missing]] = {}
    for one in results.missing:
        for key in _places(one, runs):
            missing.setdefault(key, []).append(one)
    _set_shorter_beside(runs, missing)
    keys = sorted(runs.keys() | missing.keys())
    notes = _notes(keys)
    controls = Controls(results.controls)
    blocks = []
    for key in keys:
        rows = controls.beside(build_rows(runs.get(key, []), missing.get(key, []), results.methods))
        columns = columns_of(rows)
        told = column_notes(columns), tuple(rows), controls.rows(rows), read_rule().marks(rows)
        blocks.append(Block(key, notes[key], tuple(columns), *told))
    return blocks


def used_runs(blocks: Iterable[Block]) -> list[Run]:
    """Those that stand in a table, each once."""
    return list({run.folder: run for block in blocks for run in block.runs}.values())


def interim(blocks: Sequence[Block], planned_seeds: int) -> str:
    """What a report that is not complete says of itself; "" for one that is.

    Complete: each configuration (framework, model and pool) has records, and the rows of those that have any hold
    ``planned_seeds`` seeds or more.
    """
    planned = {block.key[:3] for block in blocks}
    found = {block.key[:3] for block in blocks if block.runs}
    seeds = [len(row.runs) for block in blocks for row in block.rows if row.runs]
    return interim_text(len(found), len(planned), min(seeds), planned_seeds) if seeds else ""


def interim_text(configurations: int, of: int, seeds: int, planned: int) -> str:
    if configurations >= of and seeds >= planned:
        return ""
    return f"interim ({configurations} of {of} configurations, {min(seeds, planned)} of {planned} seeds)"


def _are_alike(row: Row) -> bool:
    values = [list(by_seed.values()) for by_seed in row.values.values() if len(by_seed) > 1]
    return bool(values) and all(map(are_equal, values))


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


def _set_shorter_beside(runs: dict[BlockKey, list[Run]], missing: dict[BlockKey, list[Missing]]) -> None:
    """Add full-data runs to the blocks of longer runs, as a method of their own; drop blocks that held no more."""
    for key in sorted(runs.keys() | missing.keys(), key=lambda key: length_of(key[3])[0], reverse=True):
        epochs = length_of(key[3])[0]
        longer = [other for other in runs if _is_shorter(key, other)]
        # a missing run that does not tell its training stands in the longer blocks already, under its own name
        own, known = runs.get(key, []), [one for one in missing.get(key, []) if one.training is not None]
        for other in longer:
            runs[other] += [_beside(run, epochs, length_of(other[3])[0]) for run in own if _is_full(run)]
            absent = [replace(one, method=shorter(epochs)) for one in known if one.method == FULL]
            missing.setdefault(other, []).extend(absent)
        if longer and all(map(_is_full, own)) and all(one.method == FULL for one in known):
            runs.pop(key, None)
            missing.pop(key, None)


def _is_full(run: Run) -> bool:
    return run.record["method"] == FULL


def _is_shorter(one: BlockKey, other: BlockKey) -> bool:
    """Whether two blocks differ in nothing but their length; without a record ``one`` has no fingerprint."""
    (epochs, options), (more, others) = length_of(one[3]), length_of(other[3])
    return 0 < epochs < more and options == others and one[:3] == other[:3] and one[4] in ("", other[4])


def _beside(run: Run, epochs: int, more: int) -> Run:
    """A run of ``epochs`` as it stands beside those of ``more``: named by its length, measured against theirs."""
    training = run.record["training"]
    samples_full = training["samples_full"] * more // epochs
    told = {"samples_full": samples_full, "pruning_rate": 1 - training["samples_seen"] / samples_full}
    return replace(run, record={**run.record, "method": shorter(epochs), "training": {**training, **told}})


def _notes(keys: Sequence[BlockKey]) -> dict[BlockKey, str]:
    notes = {}
    for key in keys:
        alike = [other for other in keys if other[:3] == key[:3]]
        told = [differing([with_arm(other[0], other[3]) for other in alike])[alike.index(key)]]
        if len({other[4] for other in alike if other[4]}) > 1:
            told.append(f"pool fingerprint {key[4] or 'unknown'}")
        notes[key] = ", ".join(text for text in told if text)
    return notes
