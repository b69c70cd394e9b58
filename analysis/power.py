"""The command: records -> how many seeds and test items each comparison needs, to plan the next runs by.

``python -m analysis.power [--results DIR] [--against METHOD] [--measure NAME] [--effect POINTS] [SWEEP ...]``
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from analysis.blocks.block import Block, build_blocks
from analysis.blocks.needed import needed_items
from analysis.blocks.words import points, whole
from analysis.claims.claimtest import ClaimTest
from analysis.claims.configuration import Configuration
from analysis.claims.contrast import Contrast, Part
from analysis.claims.finding import configurations
from analysis.claims.registry import Registry, read_claims
from analysis.claims.scales import Scales
from analysis.read.methods import FULL
from analysis.read.results import Results, load
from analysis.tables.render import PaperCell, PaperRow, PaperTable, markdown_of
from benchmark.files import told
from benchmark.options import Parser

HEADS = (
    ("seeds now",), ("mean", "points"), ("sd over seeds", "points"), ("of all methods", "pooled, points"),
    ("effect", "points"), ("seeds needed",), ("items now",), ("of the variance", "seeds / items / both, %"),
    ("items needed",),
)  # fmt: skip
TOLD = (
    "Seeds needed: with as many a true effect of the size given is settled (one end of the interval, of the level"
    " given, on its side of the bound) with 80 % power. The sd is that of the residual pooled over methods where"
    " these have one variance (Bartlett's test), else the larger of that and the comparison's own.",
    "Items needed: of the same kinds, in all, for the planned seeds, if items count as drawn too; from"
    ' predictions.npz. "no number" means that only more seeds help.',
    "Both are reckoned from few seeds: a guide to the order of size, not a promise.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when something was reckoned; 2 when the results, or two runs to compare, are not there."""
    parser = Parser(prog="python -m analysis.power", description="Seeds and test items that comparisons need.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="holds a folder a sweep")
    parser.add_argument("--against", default=FULL, help="the method that others are compared with in each table")
    parser.add_argument("--measure", default="", help="by its name in claims.yaml; the endpoint by default")
    parser.add_argument("--effect", type=float, help="points that should be settled; claims.yaml's by default")
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help="folder names in results; all by default")
    options = parser.parse_args(arguments)
    try:
        results, registry = load(options.results, options.sweeps), read_claims()
        known = sorted({name for own in registry.measures.values() for name in own})
        if options.measure and options.measure not in known:
            raise ValueError(f"--measure: '{options.measure}' is no measure (known: {', '.join(known)})")
        if options.against not in results.methods:
            known = list(results.methods)
            raise ValueError(f"--against: no method '{options.against}' there (known: {', '.join(known)})")
        effect = None if options.effect is None else options.effect / 100
        tables = power_tables(results, registry, options.against, options.measure, effect)
    except (OSError, ValueError) as error:
        print(f"error: {told(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 2
    if not tables:
        print(f"error: {options.results}: no two methods with a seed and a measure in common", file=sys.stderr)
        return 2
    print(markdown_of(tables, "Seeds and items that are needed", TOLD), end="")
    return 0


def power_tables(
    results: Results, registry: Registry, against: str = FULL, measure: str = "", effect: float | None = None
) -> list[PaperTable]:
    """What the claims compare, then each method with ``against`` in each table.

    ``effect``, a fraction, takes the place of the registry's.
    """
    blocks = build_blocks(results)
    tables = [_claims_table(results, blocks, registry, measure, effect)]
    tables += [_block_table(block, registry, against, measure, effect) for block in blocks if block.runs]
    return [table for table in tables if table.rows]


def _claims_table(
    results: Results, blocks: Sequence[Block], registry: Registry, measure: str, effect: float | None
) -> PaperTable:
    scales = Scales.of(registry, blocks)
    by_name = {run.record["run"]: run for run in results.runs}
    rows = []
    for where, found in (("the paper's scale", scales.at_paper), ("these records", scales.here)):
        measured = [replace(c, other_measure=measure) for c in found]
        for claim in registry.claims:
            for contrast, own in ClaimTest(claim, registry, measured, by_name).contrasts():
                label = f"{claim.id}: {contrast.part.name}, {configurations(len(contrast.part.names))}"
                rows.append(_row(label, where, contrast, own if effect is None else effect, registry))
    return PaperTable("power", "Claims", "comparison", HEADS, tuple(rows))


def _block_table(block: Block, registry: Registry, against: str, measure: str, effect: float | None) -> PaperTable:
    configuration = Configuration(block, None, registry, measure)
    size = registry.plan.smallest_effect if effect is None else effect
    rows = [
        _row(contrast.part.name, "", contrast, size, registry) for contrast in _against(configuration, against)
    ]
    return PaperTable("power", f"{block.title}, against {against}", "method", HEADS, tuple(rows))


def _against(configuration: Configuration, method: str) -> Iterator[Contrast]:
    rows = configuration.block.rows
    base = next((row for row in rows if row.method == method and row.runs), None)
    for row in rows:
        if base is not None and row.runs and row is not base:
            part = Part(row.method)
            part.add(configuration.name, configuration.against(row, base))
            contrast = Contrast.of(part, 0.95)
            if contrast is not None:
                yield contrast


def _row(label: str, where: str, contrast: Contrast, effect: float, registry: Registry) -> PaperRow:
    found, pooled, crossed = contrast.found, contrast.pooled, contrast.crossed
    sd = "—" if found.sd is None or found.is_constant else f"{100 * found.sd:.2f}"
    residual = "—" if pooled is None else f"{100 * pooled.sd:.2f} ({pooled.df} df, p = {pooled.p:.2f})"
    needed = contrast.needed(effect)
    seeds = "not known" if contrast.sd is None else "no number" if needed is None else whole(needed)
    if isinstance(crossed, str):
        items = (crossed, "—", "—")
    else:
        more = needed_items(crossed, effect, contrast.level, registry.plan.seeds)
        shares = " / ".join(f"{100 * share:.0f}" for share in crossed.shares)
        with_seeds = f"{registry.plan.seeds} seeds"
        items = (whole(crossed.items), shares, f"{'no number' if more is None else whole(more)} ({with_seeds})")
    told = (
        f"{found.n}", points(found.mean), sd, residual, f"{100 * effect:g} at {100 * contrast.level:.4g} %", seeds,
        *items,
    )  # fmt: skip
    return PaperRow(label, tuple(PaperCell((text,)) for text in told), (where,) if where else ())


if __name__ == "__main__":
    sys.exit(main())
