"""Answers -> the page's tables and the CSV of all seeds."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from analysis.blocks.statistics import t_interval
from analysis.contrasts.answer import Answer
from analysis.contrasts.registered import Question, Registered


def points(value: float) -> str:
    """``+0.42``, with a minus sign that is one."""
    return f"{100 * value:+.2f}".replace("-", "−")


def markdown(question: Question, found: Sequence[Answer], registered: Registered) -> str:
    """A table of the primary measure, and one of the others."""
    measure, n = registered.primary[question.measure], len(found[0].differences)
    lines = [
        f"### {question.id}. {question.asks}",
        "",
        f"{', '.join(question.models)} on {', '.join(question.pools)}; {measure.name}, points; n = {n} of"
        f" {len(question.seeds)} seeds.",
        "",
    ]
    if not n:
        return "\n".join([*lines[:2], f"No seed is whole for all arms yet (0 of {len(question.seeds)}).", ""])
    lines += [
        "| | contrast | difference | 95 % interval | adjusted p | verdict |" + " share |" * bool(question.ceiling),
        "| --- | --- | --: | --- | --: | --- |" + " --: |" * bool(question.ceiling),
    ]
    for one in found:
        interval = t_interval(one.differences, 0.95)
        cells = [
            one.contrast.id,
            one.contrast.asks,
            "" if one.mean is None else points(one.mean),
            "" if interval is None else f"{points(interval[0])} to {points(interval[1])}",
            "" if one.p is None else f"{one.p:.3f}" if one.p >= 0.001 else "< 0.001",
            one.verdict + (f" (n ≈ {one.needed} would settle it)" if one.needed else ""),
        ]
        share = "" if one.share is None else f"{100 * one.share:.0f} %"
        lines.append("| " + " | ".join([*cells, *([share] if question.ceiling else [])]) + " |")
    names = list(dict.fromkeys(name for one in found for name in one.beside))
    if names:
        shares = {m.name: m.is_share for m in registered.secondary[question.measure]}
        lines += ["", "| beside it | " + " | ".join(names) + " |", "| --- |" + " --: |" * len(names)]
        for one in found:
            cells = [
                "" if name not in one.beside
                else points(one.beside[name]) if shares[name]
                else f"{one.beside[name]:+.3f}".replace("-", "−")
                for name in names
            ]  # fmt: skip
            lines.append(f"| {one.contrast.id} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def csv_text(found: Iterable[tuple[Question, Sequence[Answer]]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["question", "contrast", "n", "mean", "low95", "high95", "p_holm", "verdict", "share", "seeds"]
    )
    for question, some in found:
        for one in some:
            low, high = t_interval(one.differences, 0.95) or ("", "")
            seeds = " ".join(f"{difference:.6f}" for difference in one.differences)
            row = [question.id, one.contrast.id, len(one.differences), one.mean, low, high, one.p, one.verdict]
            writer.writerow([*row, one.share, seeds])
    return file.getvalue()
