"""What happens as a budget, a dose or a share of noise is turned up -> figures; none where nothing was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from analysis.blocks.block import Block
from analysis.blocks.rows import Row
from analysis.claims.configuration import Configuration
from analysis.claims.registry import Registry
from analysis.figures.data import effect_of, seen
from analysis.figures.differences import Words
from analysis.figures.lines import Line, Lines, draw_lines
from analysis.figures.style import Drawing, Look
from analysis.read.methods import FULL, family_of, is_shorter, is_static
from analysis.read.setting import length_of
from analysis.tables.names import configuration_name

Looks = Mapping[str, Look]

MOST_PANELS = 4
SAID = "Paired difference to full data by the claims' measure; bars: 95 % interval over at least three seeds."


def draw_turned(registry: Registry, blocks: Sequence[Block], looks: Looks) -> list[Drawing]:
    """Coresets and other static subsets over their budgets, dynamic methods over their dose, all over noise."""
    own = [Configuration(block, None, registry) for block in blocks if block.runs and not block.is_published]
    own = [c for c in own if c.full is not None]
    margin = 100 * registry.margin
    static = Words("00-coresets", "Coresets and other static subsets at several budgets", SAID)
    dynamic = Words("00-dose", "Methods that choose anew, at several doses", SAID)
    noise = Words("00-noise", "Faults planted into the pool", f"{SAID} Full data is that of the same pool.")
    planned = [
        (static, "left out, % of the samples", _budgets(own, is_static_row)),
        (dynamic, "left out, % of the samples", _budgets(own, lambda row: not is_static_row(row))),
        (noise, "planted faults, % of the pool", list(_noise(own))),
    ]
    return [draw_lines(words, unit, shown[:MOST_PANELS], looks, margin) for words, unit, shown in planned if shown]


def is_static_row(row: Row) -> bool:
    return is_static(row.runs[0])


def _budgets(own: Sequence[Configuration], counts: Callable[[Row], bool]) -> list[Lines]:
    """A panel a configuration in which some method has several budgets."""
    shown = []
    for c in own:
        rows: dict[str, list[Row]] = {}
        for row in c.block.rows:
            if row.runs and row.method != FULL and not is_shorter(row.method) and counts(row):
                rows.setdefault(family_of(row.runs[0].record), []).append(row)
        lines = [line for family, found in rows.items() if len((line := _line(c, family, found)).points) > 1]
        if lines:
            shown.append(Lines(configuration_name(*c.key, c.block.note), lines))
    return shown


def _line(c: Configuration, family: str, rows: Sequence[Row]) -> Line:
    found = []
    for row in rows:
        assert c.full is not None, "only configurations with full data are asked"
        effect = effect_of(list(c.differences(row, c.full).values()))
        if effect is not None:
            found.append((100 - seen(row), effect))
    return Line(family, sorted(found, key=lambda point: point[0]))


def _noise(own: Sequence[Configuration]) -> Iterator[Lines]:
    """A panel for each model and pool that was trained with several shares of one fault."""
    groups: dict[str, dict[float, Configuration]] = {}
    planted = [(c, *_planted(c.block.runs[0].record["config"].get("pool"))) for c in own]
    faults = {fault for _, _, fault, _ in planted if fault}
    for c, pool, fault, share in planted:
        for kind in {fault} if fault else faults:
            key = json.dumps([*c.key[:2], pool, length_of(c.block.key[3]), kind], sort_keys=True, default=str)
            groups.setdefault(key, {}).setdefault(share, c)
    for by_share in groups.values():
        if len(by_share) < 2:
            continue
        shares = sorted(by_share)
        last = by_share[shares[-1]]
        rows = [row for row in last.block.rows if row.runs and row.method != FULL]
        families = dict.fromkeys(family_of(row.runs[0].record) for row in rows)
        lines = []
        for family in families:
            points = []
            for share in shares:
                c = by_share[share]
                rows = [r for r in c.block.rows if r.runs and family_of(r.runs[0].record) == family]
                points += [(100 * share, effect) for _, effect in _line(c, family, rows[:1]).points]
            lines.append(Line(family, points))
        yield Lines(configuration_name(*last.key[:2], last.key[2]), lines)


def _planted(pool: Any) -> tuple[Any, str, float]:
    """The pool without what was planted, which fault it was and its share; the largest of several."""
    if not isinstance(pool, Mapping) or not isinstance(pool.get("options"), Mapping):
        return pool, "", 0.0
    options = dict(pool["options"])
    planted = options.pop("plant", None)
    shares = {
        name: float(share)
        for name, share in (planted.items() if isinstance(planted, Mapping) else ())
        if name != "seed" and isinstance(share, int | float) and share > 0
    }
    clean = {"name": pool.get("name"), "options": options}
    if not shares:
        return clean, "", 0.0
    fault = max(shares, key=lambda name: shares[name])
    return clean, fault, shares[fault]
