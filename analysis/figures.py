"""Blocks -> figures, one panel each: curves over epochs, metrics against samples seen, pruning against truth."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.rows import Column, Row
from analysis.shown import whole
from analysis.statistics import Spread
from analysis.style import Drawing, Look, axes, drawing, finish, slug
from analysis.tables import Block
from analysis.truth import TruthRow, truth_rows

Looks = Mapping[str, Look]


def draw_block(block: Block, number: int, looks: Looks) -> list[Drawing]:
    """All figures of a main table; none for what its records do not hold."""
    prefix = slug(f"{number:02d}", *block.key[:3])
    done = [row for row in block.rows if row.runs]
    found = [_curve(block, done, what, prefix, looks) for what in _CURVES]
    for column in _main_columns(block):
        found.append(_against_samples(block, done, column, prefix, looks))
    for flag, rows in _by_flag(block):
        found += [_pruned(block, flag, rows, prefix), _candidates(block, flag, rows, prefix, looks)]
    return [figure for figure in found if figure is not None]


_CURVES = {
    "kept": ("Share of the pool kept", "kept, % of the pool"),
    "loss": ("Training loss", "mean loss of kept samples"),
}


def _curve(block: Block, rows: Sequence[Row], what: str, prefix: str, looks: Looks) -> Drawing | None:
    title, unit = _CURVES[what]
    with axes() as (figure, panel):
        for row in rows:
            seeds = _per_seed(row, what)
            if not seeds:
                continue
            look = looks[row.method]
            epochs = sorted(set.intersection(*(set(one) for one in seeds)))  # a mean is over the same seeds
            for one in seeds:
                panel.plot(list(one), list(one.values()), color=look.colour, alpha=0.35, linewidth=0.8)
            mean = [float(np.mean([one[epoch] for one in seeds])) for epoch in epochs]
            panel.plot(
                epochs, mean, color=look.colour, linestyle=look.line, marker=look.marker, markersize=4.5,
                markevery=max(1, len(epochs) // 8), linewidth=1.6, label=f"{row.method} (n = {len(seeds)})",
            )  # fmt: skip
        if not panel.lines:
            return None
        panel.set(xlabel="epoch", ylabel=unit)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        if what == "kept":
            panel.set_ylim(0, 105)
        finish(figure, panel, title)
        caption = f"{block.title}. Thick: mean over seeds; thin: each seed."
        return drawing(figure, f"{prefix}-{what}", f"{title} per epoch", caption)


def _per_seed(row: Row, what: str) -> list[dict[int, float]]:
    """For each seed, epoch (from 1) -> percent kept or loss; epochs without a value are left out."""
    found = {}
    for run in row.runs:
        scale = 100 / run.record["pool_facts"]["num_samples"] if what == "kept" else 1
        epochs = run.record["training"]["by_epoch"]
        values = {e["epoch"] + 1: scale * e[what] for e in epochs if e[what] is not None}
        if values:
            found[run.record["seed"]] = values
    return list(found.values())


def _main_columns(block: Block) -> list[Column]:
    """The first metric of each task, data set and protocol."""
    first: dict[tuple[object, ...], Column] = {}
    for column in block.columns:
        first.setdefault((column.task, column.dataset, column.protocol, column.items, column.options), column)
    return list(first.values())


def _against_samples(
    block: Block, rows: Sequence[Row], column: Column, prefix: str, looks: Looks
) -> Drawing | None:
    with axes() as (figure, panel):
        for row in rows:
            points = _seen_and_value(row, column)
            if not points:
                continue
            look, (x, y) = looks[row.method], np.array(points).T
            panel.scatter(x, y, s=22, facecolors="none", edgecolors=look.colour, marker=look.marker, alpha=0.8)
            panel.plot(
                x.mean(), y.mean(), color=look.colour, marker=look.marker, markersize=9, linestyle="none",
                markeredgecolor="black", markeredgewidth=0.7, label=f"{row.method} (n = {len(points)})",
            )  # fmt: skip
        panel.set(xlabel="samples seen", ylabel=f"{column.metric}, %")
        panel.margins(0.12)
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        finish(figure, panel, f"{column.task} {column.dataset}")
        name = slug(prefix, "samples", column.task, column.dataset, column.metric, column.protocol)
        number = block.columns.index(column)
        caption = f"{block.title}. Large: mean over seeds; small: each seed. Protocol {column.protocol}."
        note = block.column_notes[column]
        return drawing(
            figure, f"{name}-{number}", f"{column.metric} against samples seen",
            caption + (f" {note}." if note else ""),
        )  # fmt: skip


def _seen_and_value(row: Row, column: Column) -> list[tuple[float, float]]:
    """For each seed, samples seen and percent."""
    metrics = row.values.get(column, {})
    seen = {run.record["seed"]: run.record["training"]["samples_seen"] for run in row.runs}
    return [(seen[seed], 100 * value) for seed, value in metrics.items()]


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {unit}"
    return whole(value)


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
        finish(figure, panel, f"{flag}: what was pruned")
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
        finish(figure, panel, f"{flag}: among candidates")
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
