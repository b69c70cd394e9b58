"""Blocks -> the figures of each framework and pool: a panel for each of its models.

Many configurations make larger figures and not more of them, so a reader compares models side by side.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from analysis.blocks.block import Block
from analysis.blocks.rows import BASELINE, Column
from analysis.blocks.statistics import paired_differences
from analysis.figures import data, plots
from analysis.figures.differences import Arm, Panel, Words, draw_differences
from analysis.figures.plots import Curves, Scatter
from analysis.figures.style import Drawing, Look, slug
from analysis.figures.truth import draw_truth
from analysis.read.methods import family_of
from analysis.tables.cells import TASK_WORDS
from analysis.tables.names import FRAMEWORKS, dataset_name, method_name, metric_name

Looks = Mapping[str, Look]
Job = Callable[[Looks], Drawing]

MOST_PANELS = 9
"""A figure."""
MOST_ARMS = 24
"""Rows of a figure of differences."""
MANY_JOBS = 12
"""From here on a second process takes half of the drawing."""


@dataclass(frozen=True)
class Section:
    """Figures of one framework and pool."""

    title: str
    figures: tuple[Drawing, ...]
    note: str = ""
    """Metrics that are in the tables and have no figure; mostly empty."""
    framework: str = ""
    pool: str = ""


def draw_blocks(blocks: Sequence[Block], looks: Looks, margin: float) -> list[Section]:
    """All figures; none for what the records do not hold. ``margin``: half the band of differences, in points."""
    groups: dict[tuple[str, str], list[Block]] = {}
    for block in blocks:
        if block.runs:
            groups.setdefault((block.key[0], block.key[2]), []).append(block)
    planned = [_jobs(i + 1, group, margin) for i, group in enumerate(groups.values())]
    frameworks = dict.fromkeys(key[0] for key in groups)
    overall = [job for framework in frameworks for job in _overall(framework, blocks, margin)]
    drawn = iter(_run([job for jobs, _ in planned for job in jobs] + overall, looks))
    sections = []
    for i, (key, group) in enumerate(groups.items()):
        jobs, note = planned[i]
        found = [next(drawn) for _ in jobs]
        for j, block in enumerate(group):
            found += draw_truth(block, _prefix(i + 1, block, *([f"{j + 1:02d}"] if len(group) > 1 else [])), looks)
        title = " · ".join(key) if len(group) > 1 else group[0].title
        sections.append(Section(title, tuple(found), note, *key))
    if overall:
        sections.insert(0, Section("All configurations", tuple(drawn)))
    return [section for section in sections if section.figures]


def _run(jobs: Sequence[Job], looks: Looks) -> list[Drawing]:
    """In order; many of them on all cores, where processes can be forked."""
    draw = partial(_draw, looks=looks)
    cores = len(os.sched_getaffinity(0))
    if len(jobs) < MANY_JOBS or cores < 2 or "fork" not in multiprocessing.get_all_start_methods():
        return [draw(job) for job in jobs]
    with ProcessPoolExecutor(cores, multiprocessing.get_context("fork")) as pool:
        return list(pool.map(draw, jobs))


def _draw(job: Job, looks: Looks) -> Drawing:
    return job(looks)


def _prefix(number: int, block: Block, *more: str) -> str:
    return slug(f"{number:02d}", *more, *block.key[:3])


def _jobs(number: int, group: Sequence[Block], margin: float) -> tuple[list[Job], str]:
    """The figures of one framework and pool, and a note on what is not drawn."""
    prefix = (
        _prefix(number, group[0]) if len(group) == 1 else slug(f"{number:02d}", group[0].key[0], group[0].key[2])
    )
    title = group[0].title if len(group) == 1 else f"{group[0].key[0]} · {group[0].key[2]}"
    columns = _shared_headlines(group)
    drawn = columns[: 2 if len(group) <= 4 else 1]
    jobs = [
        job for i, column in enumerate(drawn) for job in _samples(column, group, slug(prefix, f"{i + 1}"), title)
    ]
    if len(group) == 1:
        jobs += _differences(
            group, columns, Words(f"{prefix}-differences", "Difference to full data by task", title), margin
        )
    jobs += _curves("kept", "Share of the pool kept per epoch", "kept, % of the pool", group, prefix, title)
    jobs += _curves(
        "loss", "Training loss of the epochs that visit the whole pool", "mean loss", group, prefix, title
    )
    rest = ", ".join(dict.fromkeys(task_name(c) for c in columns[len(drawn) :]))
    return jobs, f"In the tables and as differences alone: {rest}." if rest else ""


def _shared_headlines(group: Sequence[Block]) -> list[Column]:
    return list(dict.fromkeys(column for block in group for column in headlines(block)))


def headlines(block: Block) -> list[Column]:
    """The first metric of each task, data set and protocol. Nats have no place on an axis of percent."""
    first: dict[tuple[object, ...], Column] = {}
    for column in [column for column in block.columns if not column.is_nats]:
        first.setdefault((column.task, column.dataset, column.protocol, column.items, column.options), column)
    return list(first.values())


_CURVES = {"kept": data.kept_curves, "loss": data.loss_curves}


def _curves(what: str, kind: str, unit: str, group: Sequence[Block], prefix: str, title: str) -> list[Job]:
    shown = [Curves(_name(block), found) for block in group if (found := _CURVES[what](block))]
    seeds = "Thick: mean over seeds; thin: each seed, or a band from the lowest to the highest of more than 5."
    told = seeds if len(shown) == 1 else "Means over seeds."
    alone = " A method that never visits the whole pool has none." if what == "loss" else ""
    words = Words(f"{prefix}-{what}", kind, f"{title}. {told}{alone}")
    return [partial(plots.draw_curves, w, unit, part) for w, part in _parts(words, shown)]


def _samples(column: Column, group: Sequence[Block], prefix: str, title: str) -> list[Job]:
    """One metric against samples seen."""
    having = [block for block in group if column in block.columns]
    note = having[0].column_notes[column]
    told = f"{title}. {SEEDS} Protocol {column.protocol}." + (f" {note}." if note else "")
    name = slug(prefix, column.task, column.dataset, column.metric, "samples")
    words = Words(name, f"{task_name(column)} against samples seen", told)
    shown = [Scatter(_name(block), found) for block in having if (found := data.points(block, column))]
    return [
        partial(plots.draw_samples, w, f"{metric_name(column.metric)}, %", part)
        for w, part in _parts(words, shown)
    ]


SEEDS = "Mean and 95 % interval over at least three seeds; of fewer, each seed."


def _differences(own: Sequence[Block], columns: Sequence[Column], words: Words, margin: float) -> list[Job]:
    """Methods down, a panel a task; averaged over configurations seed by seed where there are several."""
    rows = [row for block in own for row in block.rows if row.method != BASELINE and row.runs]
    arms = {row.method: family_of(row.runs[0].record) for row in rows}
    arms = dict(list(arms.items())[:MOST_ARMS])
    shown = []
    for column in columns:
        effects = {m: [found] for m in arms if (found := _effect(own, column, m)) is not None}
        if effects:
            shown.append(Panel(task_name(column), effects))
    seen = {m: [data.seen(row) for row in rows if row.method == m] for m in arms}
    pruned = {m: 100 - sum(found) / len(found) for m, found in seen.items()}
    told = f"Paired by seed; beside each name the share of the samples it leaves out. {SEEDS}"
    words = replace(words, caption=f"{words.caption}. {told}")
    draw = partial(_draw_differences, arms=arms, pruned=pruned, margin=margin)
    return [partial(draw, words=w, shown=part) for w, part in _parts(words, shown)]


def _draw_differences(
    looks: Looks,
    words: Words,
    arms: Mapping[str, str],
    pruned: Mapping[str, float],
    shown: Sequence[Panel],
    margin: float,
) -> Drawing:
    """``arms``: method -> family."""
    rows = [Arm(m, method_name(family), looks[m], pruned[m]) for m, family in arms.items()]
    return draw_differences(words, rows, shown, margin)


def _effect(own: Sequence[Block], column: Column, method: str) -> data.Effect | None:
    """Over the configurations that have the metric for the method and full; a marked column does not count."""
    strata, is_below = [], False
    for block in own:
        rows = {row.method: row for row in block.rows}
        counts = column not in block.marks or len(own) == 1
        if counts and method in rows and BASELINE in rows:
            found = paired_differences(rows[method].values.get(column, {}), rows[BASELINE].values.get(column, {}))
            if found:
                strata.append(found)
                is_below |= rows[method].cells[column].is_below_pixels
    effect = data.average_of(strata)
    return effect and replace(effect, is_below_pixels=is_below and len(own) == 1)


def _overall(framework: str, blocks: Sequence[Block], margin: float) -> list[Job]:
    """Differences by task averaged over all configurations of a framework; nothing to average over one."""
    own = [block for block in blocks if block.key[0] == framework and block.runs]
    if len(own) < 2:
        return []
    told = f"Averaged over {len(own)} configurations, as far as they have the task"
    words = Words(slug("00", framework, "differences"), f"{FRAMEWORKS.get(framework, framework)} by task", told)
    return _differences(own, _shared_headlines(own), words, margin)


def task_name(column: Column) -> str:
    return f"{TASK_WORDS[column.task]} {dataset_name(column.dataset)}, {metric_name(column.metric)}"


def _name(block: Block) -> str:
    return " ".join([block.key[1], *([block.note] if block.note else [])])


def _parts(words: Words, shown: list) -> list[tuple[Words, list]]:
    """Figures of at most ``MOST_PANELS`` panels."""
    starts = range(0, len(shown), MOST_PANELS)
    parts = [shown[start : start + MOST_PANELS] for start in starts]
    if len(parts) < 2:
        return [(words, part) for part in parts]
    return [
        (replace(words, name=f"{words.name}-{i + 1}", title=f"{words.title} ({i + 1} of {len(parts)})"), part)
        for i, part in enumerate(parts)
    ]
