"""Verdicts and the paper's own numbers -> tables for Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from analysis.blocks.words import percent
from analysis.claims.finding import Finding, Judged
from analysis.claims.published import PaperNumbers, PublishedTable
from analysis.tables.cells import TASK_WORDS
from analysis.tables.render import PaperCell, PaperRow, PaperTable

TOLD = (
    "A claim is tested twice: on records of the paper's configurations, and on all other records, where it is a"
    " scaled-down form of the claim that says nothing about the paper's numbers.",
    "supported and refuted: the interval over seeds settles it by the rule; the same within ±δ: two one-sided"
    " tests hold the difference within the smallest effect of interest; unresolved: neither, with the seeds that"
    " would settle such an effect with 80 % power; no records: of what it needs. A mean alone is no verdict.",
    "Fewer than 3 common seeds settle nothing, nor do seeds that are all equal, nor an interval that the residual"
    " pooled over methods leaves open. Rules, margins, the plan and its date stand in analysis/claims.yaml.",
    "scan_random, SCAN's schedule with random samples, stands beside each verdict on SCAN by the same rule.",
    "reproduction: a claim of the paper's; extension: one of ours.",
)
"""How to read the verdicts."""

PUBLISHED_TOLD = (
    "Published numbers, none of ours: they enter no mean, test or verdict. Where we have the same, the tables as"
    " in the paper set them beside ours.",
    "primary: stated by the paper itself; secondary, not checked: told by a text about it.",
)


def claims_table(judged: Sequence[Judged], is_brief: bool = False) -> PaperTable:
    """A row a claim: what the paper says, and both verdicts with what they rest on; in brief, the first figure."""
    rows = [
        PaperRow(
            one.claim.claim,
            (
                PaperCell((one.claim.paper, one.claim.where)),
                _cell(one.at_paper, is_brief),
                _cell(one.here, is_brief),
            ),
            (f"{one.claim.id}, {one.claim.kind}",),
        )
        for one in judged
    ]
    heads = (("the paper",), ("at the paper's scale",), ("at the scale of these records", "a scaled-down form"))
    return PaperTable("claims", "Claims and verdicts", "claim", heads, tuple(rows), is_text=True)


def coverage(found: Finding) -> str:
    return f"{len(found.covered)} of {found.of} configurations"


def _cell(found: Finding, is_brief: bool) -> PaperCell:
    if is_brief:
        seeds = f", n = {found.n}" if found.n else ""
        beside = [text for text in (found.control, found.interim) if text]
        return PaperCell((found.said, *found.told[:1], *beside, coverage(found) + seeds), runs=found.runs)
    gaps = [f"missing: {gap.what}" for gap in found.gaps]
    return PaperCell((found.said, *found.lines, coverage(found), *gaps), runs=found.runs)


def statistics_tables(judged: Sequence[Judged]) -> list[PaperTable]:
    """What stands beside the verdicts on differences: measures not chosen, second opinions on intervals."""
    rows = []
    for one in judged:
        for scale, found in (("the paper's scale", one.at_paper), ("these records", one.here)):
            if found.second or found.alternatives:
                needed = "—" if found.needed is None else f"{found.needed}"
                others = tuple(f"{other.name}: {other.line}, {other.said}" for other in found.alternatives)
                lines = (found.said, found.line), others or ("—",), found.second, (needed,)
                rows.append(PaperRow(one.claim.short, tuple(map(PaperCell, lines)), (f"{one.claim.id}, {scale}",)))
    heads = (("verdict",), ("by other measures",), ("second opinions",), ("seeds needed", "80 % power"))
    title = "Statistics beside the verdicts"
    return [PaperTable("statistics", title, "claim", heads, tuple(rows), is_text=True)] if rows else []


def published_tables(published: PaperNumbers) -> list[PaperTable]:
    """What is told in words, then a table each of the paper's, in percent as printed."""
    rows = [
        PaperRow(one.what, tuple(PaperCell((text,)) for text in (one.value, one.setting, one.place, one.source)))
        for one in published.numbers
    ]
    heads = (("published",), ("setting",), ("place",), ("source",))
    title = f"Published numbers: {published.paper}"
    told = PaperTable("published", title, "what", heads, tuple(rows), PUBLISHED_TOLD, True, True)
    return [told, *map(_published_table, published.tables)]


def _published_table(one: PublishedTable) -> PaperTable:
    rows = [
        PaperRow(
            f"{row.model}, {row.printed}",
            tuple(PaperCell(("—" if value is None else f"{value:.2f}",)) for value in row.values),
            (f"here {row.method}",) if row.printed != row.method else (),
        )
        for row in one.rows
    ]
    heads = tuple((c.name, f"{TASK_WORDS[c.task]} {c.dataset}, {c.metric}") for c in one.columns)
    notes = (f"{one.framework} · {one.pool}, {percent(one.pruned)} % pruned, percent", one.place, one.source)
    title = f"Published: {one.title}"
    return PaperTable("published", title, "method", heads, tuple(rows), notes, is_published=True)


def claims_frame(judged: Iterable[Judged]) -> pd.DataFrame:
    """A row a claim and scale, fractions raw."""
    rows = []
    for one in judged:
        for scale, found in (("paper", one.at_paper), ("records", one.here)):
            low, high = found.interval or (None, None)
            rows.append(
                {
                    "id": one.claim.id, "kind": one.claim.kind, "claim": one.claim.claim, "where": one.claim.where,
                    "paper": one.claim.paper, "rule": one.claim.rule, "scale": scale, "verdict": found.verdict,
                    "said": found.said,
                    "mean": found.mean, "interval_low": low, "interval_high": high, "level": found.level,
                    "n": found.n, "seeds_needed": found.needed, "margin": found.margin,
                    "configurations": len(found.covered), "configurations_of": found.of, "interim": found.interim,
                    "measure": found.measure, "control": found.control, "warnings": "; ".join(found.warnings),
                    "alternatives": "; ".join(other.told for other in found.alternatives),
                    "second_opinions": "; ".join(found.second), "told": "; ".join(found.told),
                    "missing": "; ".join(gap.what for gap in found.gaps),
                    "commands": "; ".join(dict.fromkeys(gap.command for gap in found.gaps)),
                    "runs": " ".join(run.record["run"] for run in found.runs),
                }
            )  # fmt: skip
    return pd.DataFrame(rows).astype({"n": "Int64", "seeds_needed": "Int64"}) if rows else pd.DataFrame()
