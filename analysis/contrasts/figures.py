"""Answers and differences -> the figures that a file of contrasts asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from analysis.blocks.statistics import t_interval
from analysis.contrasts.answer import Answer, Values
from analysis.contrasts.registered import Contrast, Figure, Levels, Question, Registered
from analysis.contrasts.tables import points
from analysis.figures import style
from analysis.figures.data import LEAST_FOR_INTERVAL, effect_of
from analysis.figures.differences import Arm, Panel, Words, draw_differences
from analysis.figures.lines import Line, Lines, draw_lines
from analysis.read.results import Results
from analysis.tables.names import method_name

Found = Mapping[str, tuple[Question, Sequence[Answer]]]
Load = Callable[[tuple[str, ...]], Results | None]


def draw(figure: Figure, found: Found, registered: Registered, load: Load) -> style.Drawing | None:
    """None while there is nothing to draw."""
    if figure.rows:
        return _draw_rows(figure, found, registered.margin)
    return _draw_levels(figure, registered, load)


def _draw_rows(figure: Figure, found: Found, margin: float) -> style.Drawing | None:
    """Contrasts downwards that have an interval: the mean, the seeds behind it, and the band of no interest."""
    answered = [
        (row.says, answer)
        for row in figure.rows
        for answer in found[row.question.id][1]
        if answer.contrast is row.contrast and len(answer.differences) >= LEAST_FOR_INTERVAL
    ]
    if not answered:
        return None
    with style.panels(1, 0.55 + 0.2 * len(answered), width_of_one=style.PAGE_INCHES) as (drawn, (panel,)):
        panel.axvspan(-100 * margin, 100 * margin, color=style.BAND, linewidth=0, zorder=0)
        panel.axvline(0, color=style.INK, linewidth=0.7, zorder=1)
        for place, (_, one) in enumerate(answered):
            of_seeds = [100 * difference for difference in one.differences]
            panel.plot(of_seeds, [place] * len(of_seeds), "|", color=style.SOFT, markersize=5, zorder=2)
            mean, interval = 100 * float(np.mean(one.differences)), t_interval(one.differences, 0.95)
            colour = style.SOFT if one.verdict == "unsettled" else style.STRONG["scan"]
            face = style.PAPER if one.verdict == "unsettled" else colour
            if interval is not None:
                ends = [100 * edge for edge in interval]
                panel.plot(ends, [place, place], color=colour, linewidth=1.6, zorder=3)
            panel.plot(mean, place, "o", color=colour, markerfacecolor=face, markersize=4.5, zorder=4)
            told = "" if interval is None else f"  {points(interval[0])} to {points(interval[1])}"
            panel.annotate(
                f"{points(mean / 100)}{told}  n = {len(of_seeds)}", (1.01, place), va="center", fontsize=6.5,
                xycoords=("axes fraction", "data"), color=style.SOFT if one.verdict == "unsettled" else style.INK,
            )  # fmt: skip
        panel.set_yticks(range(len(answered)), [says for says, _ in answered])
        panel.set_ylim(len(answered) - 0.5, -0.5)
        panel.tick_params(axis="y", length=0)
        panel.spines["left"].set_visible(False)
        panel.grid(axis="y", visible=False)
        panel.set_xlabel("difference, points")
        caption = "Mean and 95 % interval over seeds (ticks); hollow: unsettled; grey band: the margin."
        return style.drawing(drawn, style.slug(figure.name), figure.title, caption)


def _draw_levels(figure: Figure, registered: Registered, load: Load) -> style.Drawing | None:
    panels = [(one, lines) for one in figure.panels if (lines := _lines(one, registered, load))]
    if not panels:
        return None
    looks = style.looks([line.family for _, lines in panels for line in lines], "full")
    name, margin = style.slug(figure.name), 100 * registered.margin
    counts = sorted({effect.n for _, lines in panels for line in lines for _, effect in line.points})
    caption = f"95 % t intervals over {' or '.join(map(str, counts))} seeds; band: the margin."
    against = " and ".join(method_name(method) for method in panels[0][0].against.methods)
    words = Words(name, figure.title, caption, f"difference to {against}, points")
    if all(len(line.points) > 1 for _, lines in panels for line in lines):
        shown = [Lines(one.title, lines) for one, lines in panels]
        return draw_lines(words, "visits left out, %", shown, looks, margin)
    arms = {
        line.family: Arm(line.family, method_name(line.family), looks[line.family], line.points[0][0])
        for _, lines in panels
        for line in lines
    }
    boxes = [Panel(one.title, {line.family: [line.points[0][1]] for line in lines}) for one, lines in panels]
    return draw_differences(words, list(arms.values()), boxes, margin)


def _lines(levels: Levels, registered: Registered, load: Load) -> list[Line]:
    """Of the seeds that are whole for all arms of the panel."""
    question = levels.question
    contrasts = {
        label: [Contrast(label, label, ((arm, levels.against),)) for arm in arms]
        for label, arms in levels.lines.items()
    }
    results = load(question.sweeps)
    if results is None:
        return []
    values = Values(question, [one for some in contrasts.values() for one in some], results)
    measure = registered.primary[question.measure]
    seeds = values.seeds(measure)
    lines = []
    for label, some in contrasts.items():
        found = []
        for one in some:
            effect = effect_of(values.differences(one, measure, seeds))
            if effect is not None:
                found.append((100 * values.left_out(one.pairs[0][0], seeds), effect))
        if found:
            lines.append(Line(label, found))
    return lines
