"""Points, lines and curves -> figures, a panel each configuration. What is drawn goes along as rows."""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.figures.data import Curve, Effect, Point
from analysis.figures.differences import Words
from analysis.figures.style import (
    INK,
    Drawing,
    Look,
    drawing,
    finish,
    panels,
)
from analysis.read.methods import is_shorter
from analysis.tables.names import method_name

Looks = Mapping[str, Look]

MOST_METHODS = 8
"""In one figure: more cannot be told apart, and the caption says how many there are."""
MOST_SEEDS_DRAWN = 5
"""Of more seeds, curves show the range."""


class Scatter(NamedTuple):
    """A panel of values against samples seen."""

    title: str
    points: Sequence[Point]


class Curves(NamedTuple):
    """A panel of curves over epochs."""

    title: str
    curves: Sequence[Curve]


def counted(name: str, counts: Iterable[int]) -> str:
    """``SCAN (n = 2)``, or the range where panels differ."""
    low, high = min(counts := list(counts)), max(counts)
    return f"{name} (n = {low})" if low == high else f"{name} (n = {low} to {high})"


def drawn_families(looks: Looks, found: Iterable[str]) -> tuple[list[str], str]:
    """The strong ones and the first others, and what the caption says of the rest."""
    known = list(dict.fromkeys(found))
    first = sorted(known, key=lambda method: (not looks[method].is_strong, known.index(method)))[:MOST_METHODS]
    told = f" {len(first)} of {len(known)} methods; the others are in the CSV." if len(first) < len(known) else ""
    return first, told


def draw_curves(words: Words, unit: str, shown: Sequence[Curves], looks: Looks) -> Drawing:
    """``unit`` is the label of the axis; a percentage goes from 0 to 100."""
    families, told = drawn_families(looks, (curve.family for one in shown for curve in one.curves))
    labels = {
        m: counted(method_name(m), (c.n for one in shown for c in one.curves if c.family == m)) for m in families
    }
    with panels(len(shown)) as (figure, axes):
        for i, (panel, one) in enumerate(zip(axes, shown, strict=True)):
            for curve in one.curves:
                if curve.family in labels:
                    _curve(panel, curve, looks[curve.family], labels[curve.family], len(shown) == 1)
            panel.set(xlabel="epoch", ylabel=unit if i % 3 == 0 else "")
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            panel.set_ylim(bottom=0, top=105 if "%" in unit else None)
            panel_title(panel, one.title, shown)
        finish(figure, axes)
        data = [
            {"panel": one.title, "method": c.method, "n": c.n, "epoch": epoch, "mean": mean}
            for one in shown
            for c in one.curves
            for epoch, mean in zip(c.epochs, c.mean, strict=True)
        ]
        return drawing(figure, words.name, words.title, words.caption + told, data)


def _curve(panel: Axes, curve: Curve, look: Look, label: str, with_seeds: bool) -> None:
    if with_seeds and 1 < curve.n <= MOST_SEEDS_DRAWN:
        for one in curve.by_seed:
            panel.plot(curve.epochs, one, color=look.colour, alpha=0.35, linewidth=0.6, gid=look.gid)
    elif with_seeds and curve.n > 1:
        seeds = np.array(curve.by_seed)
        panel.fill_between(
            curve.epochs, seeds.min(0), seeds.max(0), color=look.colour, alpha=0.15, linewidth=0, gid=look.gid
        )
    epochs, means = _broken(curve.epochs, curve.mean)
    step = max(1, len(curve.epochs) // 6) if len(epochs) == len(curve.epochs) else 1
    panel.plot(
        epochs, means, color=look.colour, linestyle=look.line, marker=look.marker, markersize=3.5,
        markerfacecolor=look.face, markevery=(zlib.crc32(look.gid.encode()) % step, step),
        linewidth=1.5 if look.is_strong else 1.0, label=label, gid=look.gid, zorder=look.order,
    )  # fmt: skip


def _broken(epochs: Sequence[int], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """No line goes over epochs that have no value."""
    xs, ys = [float(epochs[0])], [values[0]]
    for before, epoch, value in zip(epochs, epochs[1:], values[1:], strict=False):
        if epoch > before + 1:
            xs.append(float("nan"))
            ys.append(float("nan"))
        xs.append(float(epoch))
        ys.append(value)
    return xs, ys


def draw_samples(words: Words, value: str, shown: Sequence[Scatter], looks: Looks) -> Drawing:
    """Values against the share of samples seen, with intervals over seeds; full data in less time is a line."""
    families, told = drawn_families(looks, (point.family for one in shown for point in one.points))
    labels = {
        m: counted(method_name(m), (p.value.n for one in shown for p in one.points if p.family == m))
        for m in families
    }
    with panels(len(shown), 2.0) as (figure, axes):
        for i, (panel, one) in enumerate(zip(axes, shown, strict=True)):
            drawn = sorted(
                (point for point in one.points if point.family in labels),
                key=lambda point: families.index(point.family),
            )
            for x, point in zip(_apart([point.seen for point in drawn]), drawn, strict=True):
                draw_value(panel, x, point.value, looks[point.family], labels[point.family])
            less = sorted(
                (p.seen, p.value.mean) for p in one.points if looks[p.family].colour == INK and len(one.points) > 1
            )
            if len(less) > 1:
                panel.plot(*zip(*less, strict=True), color=INK, linewidth=0.7, zorder=1)
            panel.set(xlabel="samples seen, % of full", ylabel=value if i % 3 == 0 else "")
            panel.margins(0.12)
            panel.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
            panel_title(panel, one.title, shown)
        finish(figure, axes)
        crossed = any(p.value.is_below_pixels for one in shown for p in one.points)
        if any(is_shorter(p.method) for one in shown for p in one.points):
            told = f" Line: full data trained for less.{told}"
        told = f" Methods that saw equally many samples stand side by side.{told}"
        caption = words.caption + told + (" Crossed: below raw pixels." if crossed else "")
        data = [
            {
                "panel": one.title, "method": p.method, "family": p.family, "n": p.value.n,
                "seen": p.seen, "percent": p.value.mean,
                "ci95_low": p.value.interval and p.value.interval[0],
                "ci95_high": p.value.interval and p.value.interval[1], "is_below_pixels": p.value.is_below_pixels,
            }
            for one in shown
            for p in one.points
        ]  # fmt: skip
        return drawing(figure, words.name, words.title, caption, data)


def _apart(places: Sequence[float]) -> list[float]:
    """Those that would cover each other beside one another, in the order given."""
    step = 0.03 * max(max(places, default=0) - min(places, default=0), 10.0)
    groups: list[list[int]] = []
    for i in sorted(range(len(places)), key=lambda i: places[i]):
        if groups and places[i] - places[groups[-1][-1]] < step:
            groups[-1].append(i)
        else:
            groups.append([i])
    found = list(places)
    for group in groups:
        centre = sum(places[i] for i in group) / len(group)
        for k, i in enumerate(sorted(group)):
            found[i] = centre + step * (k - (len(group) - 1) / 2)
    return found


def draw_value(panel: Axes, x: float, value: Effect, look: Look, label: str) -> None:
    if value.interval is not None:
        width = 1.3 if look.is_strong else 0.8
        panel.plot([x, x], value.interval, color=look.colour, linewidth=width, gid=look.gid, zorder=look.order)
    panel.plot(
        [x] * len(value.points), value.points, look.marker, color=look.colour, markersize=4.5,
        markerfacecolor=look.face, markeredgewidth=0.9, label=label, gid=look.gid, zorder=look.order,
    )  # fmt: skip
    if value.is_below_pixels:
        panel.plot(x, value.mean, "x", color=INK, markersize=8, markeredgewidth=0.9)


def panel_title(panel: Axes, title: str, shown: Sequence[object]) -> None:
    if len(shown) > 1:
        panel.set_title(textwrap.fill(title, 26, max_lines=2, placeholder=" …"), loc="left")
