"""Differences to full data -> small multiples on one scale: methods down, average and parts side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.figures.data import Effect
from analysis.figures.style import BAND, COLUMN_INCHES, INK, PAGE_INCHES, SOFT, Drawing, Look, drawing, panels

MOST_A_ROW = 5
"""Panels."""
ONE_LINE, THIN_LINE = 0.165, 0.03
"""Inches of a method with one effect a panel, and of each where there are several."""
CUT = " An arrow: the interval goes on, to the number beside it."


@dataclass(frozen=True)
class Arm:
    """A method, as a row of every panel."""

    key: str
    name: str
    look: Look
    pruned: float | None = None
    """Percent of the samples, beside the name."""


@dataclass(frozen=True)
class Panel:
    """What stands over one zero: key of an arm -> its effects, one or (thin) one a model."""

    title: str
    effects: Mapping[str, Sequence[Effect]]


@dataclass(frozen=True)
class Words:
    """What stands around a figure."""

    name: str
    title: str
    caption: str
    axis: str = "difference to full data, points"


def draw_differences(
    words: Words, arms: Sequence[Arm], shown: Sequence[Panel], margin: float, is_column: bool = False
) -> Drawing:
    """``margin``, in points: half the width of the band. ``is_column``: a column wide, panels under each other."""
    thin = max(len(found) for one in shown for found in one.effects.values())
    a_row = 1 if is_column else -(-len(shown) // -(-len(shown) // MOST_A_ROW))
    names = [_name(arm, 24 if is_column else 32) for arm in arms]
    line = (ONE_LINE if thin == 1 else 0.07 + THIN_LINE * thin) + 0.08 * any("\n" in name for name in names)
    width = COLUMN_INCHES if is_column else PAGE_INCHES
    title_lines = max(len(_title(one.title, a_row).split("\n")) for one in shown)
    height = line * (len(arms) + 0.7) + 0.35 + 0.12 * title_lines
    low, high = _limits(shown, margin)
    num_cut = 0
    with panels(len(shown), height, a_row, width, width) as (figure, axes):
        for i, (panel, one) in enumerate(zip(axes, shown, strict=True)):
            panel.axvspan(-margin, margin, color=BAND, linewidth=0, zorder=0)
            panel.axvline(0, color=INK, linewidth=0.7, zorder=1)
            for y, arm in enumerate(arms):
                found = one.effects.get(arm.key, ())
                for k, effect in enumerate(found):
                    place = y if len(found) < 2 else y + 0.7 * (k / (len(found) - 1) - 0.5)
                    num_cut += _effect(panel, place, effect, arm.look, (low, high), len(found) > 1)
            panel.set(xlim=(low, high), ylim=(len(arms) + 0.1, -0.6))
            panel.set_yticks(range(len(arms)))
            panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 4, 5, 10]))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: signed(value, 3)))
            panel.tick_params(axis="y", length=0)
            panel.spines["left"].set_visible(False)
            panel.grid(axis="y", visible=False)
            if len(shown) > 1:
                panel.set_title(_title(one.title, a_row), loc="left")
            if i % a_row == 0:
                _label_rows(panel, arms, names)
            else:
                panel.set_yticklabels([])
        axes[0].text(1.1 * margin, len(arms) + 0.05, f"±{margin:g}", fontsize=6, color=SOFT, va="bottom")
        figure.supxlabel(words.axis, x=0.6, fontsize=7.5)  # below the panels, not the names
        caption = words.caption + (CUT if num_cut else "")
        return drawing(figure, words.name, words.title, caption, _rows(arms, shown))


def _title(title: str, a_row: int) -> str:
    width = 30 if a_row == 1 else max(14, int(76 / a_row))
    return textwrap.fill(title, width, max_lines=3, placeholder=" …", break_on_hyphens=False)


def _name(arm: Arm, width: int) -> str:
    name = textwrap.fill(arm.name, width, max_lines=2, placeholder=" …", break_on_hyphens=False)
    return name if arm.pruned is None else f"{name}  {arm.pruned:.0f} %"


def _label_rows(panel: Axes, arms: Sequence[Arm], names: Sequence[str]) -> None:
    labels: Sequence[Text] = panel.set_yticklabels(names, linespacing=0.95)
    for label, arm in zip(labels, arms, strict=True):
        label.set(gid=arm.look.gid, multialignment="right")
        if arm.look.is_strong:
            label.set(color=arm.look.colour, fontweight="bold")


def _limits(shown: Sequence[Panel], margin: float) -> tuple[float, float]:
    """Of the one scale: all that the first panel holds and all means; intervals elsewhere up to twice as far."""
    first = [x for found in shown[0].effects.values() for effect in found for x in effect.ends]
    everything = [effect for one in shown for found in one.effects.values() for effect in found]
    core = [*first, *(x for effect in everything for x in effect.points), -1.3 * margin, 1.3 * margin]
    low, high = min(core), max(core)
    ends = [x for effect in everything for x in effect.ends]
    reach = 0.6 * (high - low)
    low, high = max(low - reach, min(low, *ends)), min(high + reach, max(high, *ends))
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _effect(panel: Axes, y: float, effect: Effect, look: Look, limits: tuple[float, float], is_thin: bool) -> int:
    """Draws it; how many of its ends do not fit."""
    size = 1.8 if is_thin else 4.5
    num_cut = 0
    if effect.interval is not None:
        low, high = max(effect.interval[0], limits[0]), min(effect.interval[1], limits[1])
        width = 0.7 if is_thin else 1.6 if look.is_strong else 1.1
        panel.plot([low, high], [y, y], color=look.colour, linewidth=width, solid_capstyle="butt", gid=look.gid)
        for end, drawn, side in ((effect.interval[0], low, "left"), (effect.interval[1], high, "right")):
            if abs(end - drawn) < 1e-9:
                continue
            num_cut += 1
            panel.plot(drawn, y, "<" if side == "left" else ">", color=look.colour, markersize=3, gid=look.gid)
            panel.annotate(
                signed(end), (drawn, y), (3 if side == "left" else -3, 1.5), textcoords="offset points",
                fontsize=5, color=SOFT, ha=side, va="bottom",
            )  # fmt: skip
    panel.plot(
        effect.points, [y] * len(effect.points), look.marker, color=look.colour, markersize=size,
        markerfacecolor=look.face, markeredgewidth=0.6 if is_thin else 0.9, gid=look.gid,
    )  # fmt: skip
    if effect.is_below_pixels:
        panel.plot(
            effect.points, [y] * len(effect.points), "x", color=INK, markersize=size + 3, markeredgewidth=0.8
        )
    return num_cut


def signed(value: float, digits: int = 2) -> str:
    """``+0.5``, ``−7``, ``0``."""
    text = f"{value:+.{digits}g}" if abs(value) < 100 else f"{value:+.0f}"
    return "0" if float(np.round(value, 6)) == 0 else text.replace("-", "−")


def _rows(arms: Sequence[Arm], shown: Sequence[Panel]) -> list[dict[str, object]]:
    return [
        {
            "panel": one.title, "method": arm.key, "pruned": arm.pruned, "model": effect.name, "n": effect.n,
            "configurations": effect.configurations, "points": effect.mean,
            "ci95_low": effect.interval and effect.interval[0],
            "ci95_high": effect.interval and effect.interval[1],
            "is_below_pixels": effect.is_below_pixels,
        }
        for one in shown
        for arm in arms
        for effect in one.effects.get(arm.key, ())
    ]  # fmt: skip
