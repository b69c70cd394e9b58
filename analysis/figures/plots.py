"""Points, curves and effects -> figures, a panel each configuration or task. What is drawn goes along as rows."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.blocks.rows import BASELINE
from analysis.blocks.statistics import Spread
from analysis.blocks.words import whole
from analysis.figures.data import Curve, Effect, Point, lines
from analysis.figures.style import WIDTH_INCHES, Drawing, Look, drawing, finish, panels
from analysis.read.methods import is_shorter, without_budget_names

Looks = Mapping[str, Look]

ALL = "all methods, within 3 %"

MERGED = ("learning rate",)
"""What mostly runs alike for all methods."""
MOST_CURVES = 10
"""More cannot be told apart; the caption says how many there are."""
MOST_SEEDS_DRAWN = 5
"""Of more seeds, curves show the range and points the mean."""


class Words(NamedTuple):
    """What stands around a figure."""

    name: str
    title: str
    caption: str


class Scatter(NamedTuple):
    """A panel of points."""

    title: str
    points: Sequence[Point]
    full: Spread | None = None


class Curves(NamedTuple):
    """A panel of curves over epochs."""

    title: str
    curves: Sequence[Curve]


class Forest(NamedTuple):
    """A panel of differences to full."""

    title: str
    effects: Sequence[Effect]


def counted(name: str, counts: Iterable[int]) -> str:
    """``scan (n = 2)``, or the range where panels differ."""
    low, high = min(counts := list(counts)), max(counts)
    return f"{name} (n = {low})" if low == high else f"{name} (n = {low} to {high})"


def draw_curves(words: Words, unit: str, shown: Sequence[Curves], looks: Looks) -> Drawing:
    """``unit`` is the label of the axis; a percentage starts at 0."""
    shown = _merged(shown) if unit in MERGED else shown
    known = _in_turn(shown)
    methods = known[:MOST_CURVES]
    labels = {m: counted(m, (c.n for one in shown for c in one.curves if c.method == m)) for m in methods}
    with panels(len(shown)) as (figure, axes):
        for panel, one in zip(axes, shown, strict=True):
            for curve in [curve for curve in one.curves if curve.method in labels]:
                look = looks[BASELINE if curve.method == ALL else curve.method]
                _curve(panel, curve, look, labels[curve.method], len(shown) == 1)
            panel.set(xlabel="epoch", ylabel=unit)
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            panel.set_ylim(bottom=0, top=105 if unit.startswith("kept") else None)
            _panel_title(panel, one.title, shown)
        finish(figure, axes, words.title)
        caption = words.caption + (
            f" The first {len(methods)} of {len(known)} methods." if known != methods else ""
        )
        data = [
            {"panel": one.title, "method": c.method, "n": c.n, "epoch": epoch, "mean": mean}
            for one in shown
            for c in one.curves
            for epoch, mean in zip(c.epochs, c.mean, strict=True)
        ]
        return drawing(figure, words.name, words.title, caption, data)


def _merged(shown: Sequence[Curves]) -> list[Curves]:
    """Where all methods of every panel run alike, as learning rates mostly do, one curve stands for them.

    Shorter runs cannot, and stay.
    """
    parts = [
        [[c for c in one.curves if is_shorter(c.method) == apart] for apart in (False, True)] for one in shown
    ]
    if not all(len(alike) > 1 and _are_alike(alike) for alike, _ in parts):
        return list(shown)
    return [
        Curves(one.title, [replace(alike[0], method=ALL, n=min(c.n for c in alike)), *rest])
        for one, (alike, rest) in zip(shown, parts, strict=True)
    ]


def _are_alike(curves: Sequence[Curve]) -> bool:
    first = curves[0]
    close = 0.03 * max(first.mean, default=0.0)
    return all(c.epochs == first.epochs and np.allclose(c.mean, first.mean, rtol=0, atol=close) for c in curves)


def _in_turn(shown: Sequence[Curves]) -> list[str]:
    """Methods as they come, but the first of each family before the second of any."""
    family = {curve.method: curve.family for one in shown for curve in one.curves}
    place = {m: [n for n in family if family[n] == family[m]].index(m) for m in family}
    return sorted(family, key=lambda method: place[method])


def _curve(panel: Axes, curve: Curve, look: Look, label: str, with_seeds: bool) -> None:
    if with_seeds and 1 < curve.n <= MOST_SEEDS_DRAWN:
        for one in curve.by_seed:
            panel.plot(curve.epochs, one, color=look.colour, alpha=0.35, linewidth=0.7)
    elif with_seeds and curve.n > 1:
        seeds = np.array(curve.by_seed)
        panel.fill_between(curve.epochs, seeds.min(0), seeds.max(0), color=look.colour, alpha=0.15, linewidth=0)
    panel.plot(
        curve.epochs, curve.mean, color=look.colour, linestyle=look.line, marker=look.marker, markersize=4.5,
        markevery=max(1, len(curve.epochs) // 8), linewidth=1.6, label=label,
    )  # fmt: skip


def draw_fronts(words: Words, unit: str, value: str, shown: Sequence[Scatter], looks: Looks) -> Drawing:
    """Points with the Pareto front: filled markers lie on it, hollow ones do not."""
    with panels(len(shown)) as (figure, axes):
        labels = _family_labels(shown)
        for panel, one in zip(axes, shown, strict=True):
            front = sorted((p for p in one.points if p.on_front), key=lambda p: p.x)
            panel.plot(
                [p.x for p in front], [p.y for p in front], color="#555555", linestyle=(0, (2, 1.5)),
                linewidth=1.1, zorder=1.5, drawstyle="steps-post", label="Pareto front",
            )  # fmt: skip
            if less := lines(one.points).get(BASELINE):
                panel.plot([p.x for p in less], [p.y for p in less], color="#000000", linewidth=0.8)
            _scatter(panel, one.points, looks, labels)
            panel.set(xlabel=unit, ylabel=value)
            panel.margins(0.12)
            panel.xaxis.set_major_locator(MaxNLocator(4))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
            _panel_title(panel, one.title, shown)
        finish(figure, axes, words.title)
        found = "; ".join(
            (f"{one.title}: " if len(shown) > 1 else "") + ", ".join(p.method for p in one.points if p.on_front)
            for one in shown
        )
        caption = f"{words.caption}{_crossed(shown)} On the front of the means: {found}."
        return drawing(figure, words.name, words.title, caption, _point_rows(shown, "x"))


def draw_budgets(words: Words, value: str, shown: Sequence[Scatter], looks: Looks) -> Drawing:
    """A line a family with several budgets over its pruning rate, other methods as points, full as a band."""
    with panels(len(shown)) as (figure, axes):
        labels = _family_labels(shown)
        for panel, one in zip(axes, shown, strict=True):
            if one.full:
                sd = one.full.sd or 0.0
                panel.axhspan(one.full.mean - sd, one.full.mean + sd, color="#000000", alpha=0.1, linewidth=0)
                panel.axhline(one.full.mean, color="#000000", linewidth=1.4)
            for members in lines(one.points).values():
                look = looks[members[0].method]
                panel.plot([p.x for p in members], [p.y for p in members], color=look.colour, linestyle=look.line)
            _scatter(panel, one.points, looks, labels, is_filled=True)
            panel.set(xlabel="pruned, % of samples", ylabel=value)
            panel.margins(0.08, 0.12)
            panel.set_xlim(left=-3)
            _panel_title(panel, one.title, shown)
        finish(figure, axes, words.title)
        caption = words.caption + _crossed(shown)
        return drawing(figure, words.name, words.title, caption, _point_rows(shown, "pruned"))


def _crossed(shown: Sequence[Scatter]) -> str:
    """What a cross means, where there is one."""
    return " Crossed: below raw pixels." if any(p.is_below_pixels for one in shown for p in one.points) else ""


def _family_labels(shown: Sequence[Scatter]) -> dict[str, str]:
    """family -> its words in the legend."""
    members: dict[str, list[Point]] = {}
    for one in shown:
        for point in one.points:
            members.setdefault(point.family, []).append(point)
    told = {}
    for family, ones in members.items():
        budgets = len({one.method for one in ones})
        several = f"{family}; line: training less" if family == BASELINE else f"{family}, {budgets} budgets"
        name = several if budgets > 1 else ones[0].method
        told[family] = counted(name, (one.n for one in ones))
    return told


def _scatter(
    panel: Axes, shown: Sequence[Point], looks: Looks, labels: Mapping[str, str], is_filled: bool = False
) -> None:
    for point in shown:
        look = looks[point.method]
        if 1 < point.n <= MOST_SEEDS_DRAWN:
            x, y = np.array(list(point.by_seed.values())).T
            panel.plot(x, y, look.marker, color=look.colour, markersize=2.5, alpha=0.55, markeredgewidth=0)
        filled = is_filled or point.on_front
        panel.plot(
            point.x, point.y, look.marker, color=look.colour, markersize=7.5, linestyle="none",
            markerfacecolor=look.colour if filled else "white", markeredgewidth=0.8 if filled else 1.6,
            markeredgecolor="black" if filled else look.colour, label=labels[point.family],
        )  # fmt: skip
        if point.is_below_pixels:
            panel.plot(point.x, point.y, "x", color="black", markersize=11, markeredgewidth=1.2)


def _point_rows(shown: Sequence[Scatter], x: str) -> list[dict[str, object]]:
    return [
        {"panel": one.title, "method": p.method, "family": p.family, "n": p.n, x: p.x, "percent": p.y,
         "is_below_pixels": p.is_below_pixels, "on_front": p.on_front}
        for one in shown
        for p in one.points
    ]  # fmt: skip


def draw_forest(words: Words, shown: Sequence[Forest], looks: Looks) -> Drawing:
    """A dot and its interval a method. An interval that leaves the panel ends in an arrow."""
    most = max(len(one.effects) for one in shown)
    with panels(len(shown), 1.0 + 0.22 * most, WIDTH_INCHES) as (figure, axes):
        for panel, one in zip(axes, shown, strict=True):
            reach = 2 * max(0.5, *(abs(e.difference.mean) for e in one.effects))
            for y, effect in enumerate(one.effects):
                _effect(panel, y, effect, looks[effect.method], reach)
            panel.axvline(0, color="#000000", linewidth=1)
            panel.set(xlabel="difference to full, points", ylim=(most - 0.4, -0.6))
            panel.set_yticks(range(len(one.effects)), [_row_name(e) for e in one.effects], fontsize=7.5)
            panel.xaxis.set_major_locator(MaxNLocator(4))
            panel.grid(axis="y", visible=False)
            _panel_title(panel, one.title, shown, "right")  # over the long names too
        finish(figure, axes, words.title)
        data = [
            {"panel": one.title, "method": e.method, "configurations": e.configurations,
             "is_below_pixels": e.is_below_pixels, "n": e.difference.n,
             "points": e.difference.mean, "ci95_low": e.difference.ci95 and e.difference.ci95[0],
             "ci95_high": e.difference.ci95 and e.difference.ci95[1]}
            for one in shown
            for e in one.effects
        ]  # fmt: skip
        return drawing(figure, words.name, words.title, words.caption, data)


def _row_name(effect: Effect) -> str:
    name = textwrap.shorten(without_budget_names(effect.method), 30, placeholder=" …")
    of = f", {effect.configurations} conf." if effect.configurations > 1 else ""
    return f"{name} (n = {effect.difference.n}{of})" + (", below pixels" if effect.is_below_pixels else "")


def _effect(panel: Axes, y: int, effect: Effect, look: Look, reach: float) -> None:
    mean, interval = effect.difference.mean, effect.difference.ci95
    if interval is not None:
        low, high = max(interval[0], -reach), min(interval[1], reach)
        panel.plot([low, high], [y, y], color=look.colour, linewidth=1.5, solid_capstyle="butt")
        for end, whole_end, marker in ((low, interval[0], "<"), (high, interval[1], ">")):
            marker = "|" if math.isclose(end, whole_end) else marker
            panel.plot(end, y, marker, color=look.colour, markersize=5)
    panel.plot(
        mean, y, look.marker, color=look.colour, markersize=6.5, markeredgecolor="black", markeredgewidth=0.7
    )


def _panel_title(
    panel: Axes, title: str, shown: Sequence[object], side: Literal["left", "right"] = "left"
) -> None:
    if len(shown) > 1 or side == "right":
        panel.set_title(textwrap.shorten(title, 46, placeholder=" …"), fontsize=9, loc=side)


def short(value: float) -> str:
    """``3.2 M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {unit}"
    return whole(value)
