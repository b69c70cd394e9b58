"""What was pruned against planted truth -> figures, a flag each."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from analysis.blocks.block import Block
from analysis.blocks.statistics import Spread
from analysis.figures.style import Drawing, Look, axes, drawing, finish, slug
from analysis.tables.truth import TruthRow, truth_rows

Looks = Mapping[str, Look]


def draw_truth(block: Block, prefix: str, looks: Looks) -> list[Drawing]:
    """None for what its records do not hold."""
    found = []
    for flag, rows in _by_flag(block):
        found += [_pruned(block, flag, rows, prefix), _candidates(block, flag, rows, prefix, looks)]
    return [figure for figure in found if figure is not None]


def _by_flag(block: Block) -> Iterator[tuple[str, list[TruthRow]]]:
    rows = truth_rows(block)
    for flag in dict.fromkeys(row.flag for row in rows):
        yield flag, [row for row in rows if row.flag == flag]


def _pruned(block: Block, flag: str, rows: Sequence[TruthRow], prefix: str) -> Drawing | None:
    pruned = [row for row in rows if row.precision or row.recall]
    if not pruned:
        return None
    with axes(1.2 + 0.42 * len(pruned)) as (figure, panel):
        for name, look in (("precision", Look("#0072B2", "o", "-")), ("recall", Look("#D55E00", "s", "-"))):
            per_row = [[entry[name] for entry in row.by_seed] for row in pruned]
            shift = -0.12 if name == "precision" else 0.12
            _dots(panel, per_row, look, name, shift)
            _chance(panel, [row.at_random[name] for row in pruned], f"{name} at random", look, shift)
        if not any(row.at_random["precision"] for row in pruned):  # records from before that was counted
            _base_rate(panel, rows)
        labels = [f"{row.method}\n(n = {len(row.by_seed)})" for row in pruned]
        _share_axis(panel, labels, "share, %")
        finish(figure, panel)
        caption = f"{block.title}. Large: mean over seeds; small: each seed. Bars: as many samples at random."
        title = f"Pruned samples against the planted flag '{flag}'"
        return drawing(figure, slug(prefix, "pruned", flag), title, caption)


def _candidates(block: Block, flag: str, rows: Sequence[TruthRow], prefix: str, looks: Looks) -> Drawing | None:
    kinds = [(row, kind) for row in rows for kind, value in row.candidates.items() if value is not None]
    if not kinds:
        return None
    with axes(1.2 + 0.42 * len(kinds)) as (figure, panel):
        for i, (row, kind) in enumerate(kinds):
            values: list[list[float | None]] = [[] for _ in kinds]
            values[i] = [entry["candidates"].get(kind) for entry in row.by_seed]
            _dots(panel, values, looks[row.method], None)
        _base_rate(panel, rows)
        labels = [
            f"{row.method}:\n{kind} (n = {value.n})" for row, kind in kinds if (value := row.candidates[kind])
        ]
        _share_axis(panel, labels, "share with the flag, %")
        finish(figure, panel)
        caption = f"{block.title}. What each method would leave out at the end, by reason. Small: each seed."
        return drawing(figure, slug(prefix, "candidates", flag), f"Share of '{flag}' among candidates", caption)


def _dots(
    panel: Axes, per_row: Sequence[Sequence[float | None]], look: Look, label: str | None, shift: float = 0.0
) -> None:
    """A line of dots a row: each seed small, their mean large."""
    for y, values in enumerate(per_row):
        x = [100 * value for value in values if value is not None]
        if not x:
            continue
        dots = panel.plot(x, [y + shift] * len(x), markersize=4, fillstyle="none", alpha=0.8)
        mean = panel.plot(np.mean(x), y + shift, markersize=8, markeredgewidth=0.7, label=label)
        plt.setp([*dots, *mean], color=look.colour, marker=look.marker, linestyle="none")
        plt.setp(mean, markeredgecolor="black")
        label = None


def _chance(panel: Axes, per_row: Sequence[Spread | None], label: str, look: Look, shift: float) -> None:
    """A bar where pruning at random would be."""
    known = [(100 * value.mean, i + shift) for i, value in enumerate(per_row) if value]
    if not known:
        return
    x, y = np.array(known).T
    panel.plot(
        x, y, marker="|", color=look.colour, markersize=11, markeredgewidth=2, linestyle="none", label=label
    )


def _base_rate(panel: Axes, rows: Sequence[TruthRow]) -> None:
    known = [(100 * row.base_rate.mean, row.base_rate.n) for row in rows if row.base_rate]
    rate, n = float(np.mean([value for value, _ in known])), sum(n for _, n in known)
    panel.axvline(rate, color="#555555", linestyle=":", linewidth=1.5, label=f"base rate {rate:.1f} % ({n} runs)")


def _share_axis(panel: Axes, labels: Sequence[str], unit: str) -> None:
    panel.set(xlabel=unit, yticks=range(len(labels)), ylim=(len(labels) - 0.4, -0.6))
    panel.set_yticklabels(["\n".join(map(_wrapped, label.split("\n"))) for label in labels], fontsize=8)
    panel.set_xlim(left=min(0.0, panel.get_xlim()[0]))
    panel.grid(axis="y", visible=False)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 28)
