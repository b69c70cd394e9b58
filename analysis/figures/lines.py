"""Differences to full data over a budget, a dose or a share of noise -> figures; each line is named at its end."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.figures.data import Effect
from analysis.figures.differences import Words, signed
from analysis.figures.plots import Looks, draw_value, drawn_families, panel_title
from analysis.figures.style import BAND, INK, SOFT, Drawing, Look, drawing, panels
from analysis.tables.names import method_name


class Line(NamedTuple):
    """A method at several places of the axis."""

    family: str
    points: Sequence[tuple[float, Effect]]


class Lines(NamedTuple):
    """A panel of differences to full data over what is turned up."""

    title: str
    lines: Sequence[Line]


def draw_lines(words: Words, unit: str, shown: Sequence[Lines], looks: Looks, margin: float) -> Drawing:
    """Differences to full data over a dose, a budget or a share of noise; each line is named at its end."""
    families, told = drawn_families(looks, (line.family for one in shown for line in one.lines))
    with panels(len(shown), 2.3, 2) as (figure, axes):
        for panel, one in zip(axes, shown, strict=True):
            panel.axhspan(-margin, margin, color=BAND, linewidth=0, zorder=0)
            panel.axhline(0, color=INK, linewidth=0.7, zorder=1)
            ends = []
            drawn = [line for line in one.lines if line.family in families]
            everywhere = [x for line in drawn for x, _ in line.points]
            step = 0.02 * (max(everywhere) - min(everywhere))
            for k, line in enumerate(drawn):
                look = looks[line.family]
                xs = [x + step * (k - (len(drawn) - 1) / 2) for x, _ in line.points]
                ys = [value.mean for _, value in line.points]
                for x, (_, value) in zip(xs, line.points, strict=True):
                    draw_value(panel, x, value, look, "")
                width = 1.4 if look.is_strong else 0.9
                panel.plot(xs, ys, color=look.colour, linestyle=look.line, linewidth=width, gid=look.gid)
                ends.append((ys[-1], method_name(line.family), look))
            panel.set(xlabel=unit, ylabel=words.axis)
            panel.margins(0.06, 0.1)
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: signed(value, 3)))
            panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            _name_ends(panel, ends)
            panel_title(panel, one.title, shown)
        data = [
            {
                "panel": one.title, "method": line.family, "x": x, "n": value.n, "points": value.mean,
                "ci95_low": value.interval and value.interval[0],
                "ci95_high": value.interval and value.interval[1],
            }
            for one in shown
            for line in one.lines
            for x, value in line.points
        ]  # fmt: skip
        return drawing(figure, words.name, words.title, words.caption + told, data)


def _name_ends(panel: Axes, ends: Sequence[tuple[float, str, Look]]) -> None:
    """Names beside the panel, as near to the ends of their lines as they do not cover each other."""
    low, high = panel.get_ylim()
    places = sorted(((y - low) / (high - low), name, look) for y, name, look in ends)
    at = _spread([place for place, _, _ in places], 0.066)
    for y, (place, name, look) in zip(at, places, strict=True):
        panel.annotate(
            textwrap.shorten(name, 30, placeholder=" …"), xy=(1.0, place), xytext=(1.06, y),
            xycoords="axes fraction", textcoords="axes fraction", fontsize=6.5, va="center", gid=look.gid,
            color=look.colour if look.is_strong else SOFT, fontweight="bold" if look.is_strong else "normal",
            arrowprops={
                "arrowstyle": "-", "color": look.colour, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )  # fmt: skip


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """Ascending places moved as little as keeps them ``gap`` apart: those that crowd share their mean."""
    groups: list[list[float]] = []
    for i, place in enumerate(places):
        groups.append([place - i * gap])
        while len(groups) > 1 and _mean(groups[-2]) > _mean(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    level = [_mean(group) for group in groups for _ in group]
    return [place + i * gap for i, place in enumerate(level)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
