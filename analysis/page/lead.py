"""The lead figure: methods down, the average and each configuration side by side on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.blocks.block import Block
from analysis.blocks.statistics import mean_by_seed
from analysis.claims.configuration import Configuration
from analysis.figures.data import LEAST_FOR_INTERVAL, Effect, Point, effect_of, seen
from analysis.figures.differences import Arm, Panel, Words, draw_differences
from analysis.figures.plots import Scatter, draw_samples
from analysis.figures.style import Drawing, Look
from analysis.page.headline import Headline
from analysis.read.methods import CONTROL, family_of
from analysis.tables.names import FRAMEWORKS, configuration_name, pool_name

MOST_SINGLE = 4
"""Configurations with a panel each; more stand as thin lines in the panel of their framework and pool."""


def draw_lead(headline: Headline, looks: Mapping[str, Look]) -> list[Drawing]:
    """For a page's width and, panels under each other, for a column's; none where there is nothing to compare."""
    measured = [arm for arm in headline.arms if arm.effects]
    if not measured:
        return []
    arms = [Arm(arm.family, arm.name, looks[arm.family], 100 * arm.pruned) for arm in measured]
    left_out = headline.num_methods - len(headline.arms)
    caption = (
        f"Difference to full data in points of {headline.measure}, paired by seed: mean and 95 % interval over"
        f" {headline.seeds}{_of_few(headline)}. Beside each name the share of the samples it left out; grey band:"
        f" ±{headline.margin:g}." + (f" {left_out} further methods stand in the tables." if left_out else "")
    )
    shown, order = _panels(headline)
    if any(arm.family == CONTROL for arm in headline.arms):
        caption += " Random control: as many random samples on SCAN's schedule."
    words = Words("00-lead", "SCAN and its rivals against full data", caption + order)
    wide = draw_differences(words, arms, shown, headline.margin)
    narrow = replace(words, name="00-lead-column")
    return [wide, draw_differences(narrow, arms, shown, headline.margin, is_column=True)]


def _of_few(headline: Headline) -> str:
    least = min((effect.n for arm in headline.arms if (effect := arm.average)), default=1)
    return "; of fewer than three seeds, each seed's own" if least < LEAST_FOR_INTERVAL else ""


def _panels(headline: Headline) -> tuple[list[Panel], str]:
    """The average and its parts, and what tells the thin lines apart."""
    own = headline.configurations
    shown = []
    measured = [i for i in range(len(own)) if any(i in arm.effects for arm in headline.arms)]
    if len(measured) > 1:
        most = max(len(arm.effects) for arm in headline.arms)  # over fewer it is another average
        whole = [arm for arm in headline.arms if len(arm.effects) == most]
        average = {arm.family: [effect] for arm in whole if (effect := arm.average)}
        shown.append(Panel(f"average of {most}", average))
    if len(measured) <= MOST_SINGLE:
        return [*shown, *(Panel(_title(own[i]), _parts(headline, [i])) for i in measured)], ""
    groups: dict[str, list[int]] = {}
    for i in measured:
        framework, _, pool = own[i].key
        groups.setdefault(f"{FRAMEWORKS.get(framework, framework)} on {pool_name(pool)}", []).append(i)
    models = "; ".join(f"{title}: {', '.join(own[i].key[1] for i in found)}" for title, found in groups.items())
    shown += [Panel(title, _parts(headline, found)) for title, found in groups.items()]
    return shown, f" Thin lines, from the top: {models}."


def _title(c: Configuration) -> str:
    return configuration_name(*c.key, c.block.note)


def _parts(headline: Headline, numbers: Sequence[int]) -> dict[str, list[Effect]]:
    found: dict[str, list[Effect]] = {}
    for arm in headline.arms:
        for i in numbers:
            effect = effect_of(list(arm.effects.get(i, {}).values()), name=headline.configurations[i].name)
            if effect is not None:
                found.setdefault(arm.family, []).append(effect)
    return found


def draw_samples_seen(headline: Headline, blocks: Sequence[Block], looks: Mapping[str, Look]) -> list[Drawing]:
    """Accuracy against samples seen, a panel a configuration; none of many, whose figures stand below.

    Full data trained for less, which takes part in no claim, stands in ``blocks``.
    """
    own = headline.configurations
    if not any(arm.effects for arm in headline.arms) or len(own) > MOST_SINGLE:
        return []
    shown = []
    for c in own:
        points = []
        for row in next(block for block in blocks if block.key == c.block.key).rows:
            values = mean_by_seed([found for column in c.columns if (found := row.values.get(column))])
            if row.runs and (effect := effect_of(list(values.values()))) is not None:
                points.append(Point(row.method, family_of(row.runs[0].record), seen(row), effect))
        shown.append(Scatter(_title(c), points))
    caption = f"By {headline.measure}; mean and 95 % interval over at least three seeds, of fewer each seed."
    return [
        draw_samples(Words("00-samples", "Accuracy against samples seen", caption), "accuracy, %", shown, looks)
    ]
