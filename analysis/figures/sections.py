"""Blocks -> the report's figures: a section for each framework and pool, a panel for each of its models.

Many configurations make larger figures and not more of them, so a reader compares models side by side.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from analysis.blocks.block import Block
from analysis.blocks.rows import Column
from analysis.figures import data, plots
from analysis.figures.plots import Curves, Forest, Scatter, Words
from analysis.figures.style import Drawing, Look, slug
from analysis.figures.truth import draw_truth

Looks = Mapping[str, Look]
Job = Callable[[Looks], Drawing]

MOST_PANELS = 9
"""A figure."""
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


def draw_blocks(blocks: Sequence[Block], looks: Looks) -> list[Section]:
    """All figures; none for what the records do not hold."""
    groups: dict[tuple[str, str], list[Block]] = {}
    for block in blocks:
        if block.runs:
            groups.setdefault((block.key[0], block.key[2]), []).append(block)
    planned = [_jobs(i + 1, group) for i, group in enumerate(groups.values())]
    overall = [job for framework in dict.fromkeys(key[0] for key in groups) for job in _overall(framework, blocks)]
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


def _jobs(number: int, group: Sequence[Block]) -> tuple[list[Job], str]:
    """The figures of one framework and pool, and a note on what is not drawn."""
    prefix = (
        _prefix(number, group[0]) if len(group) == 1 else slug(f"{number:02d}", group[0].key[0], group[0].key[2])
    )
    title = group[0].title if len(group) == 1 else f"{group[0].key[0]} · {group[0].key[2]}"
    jobs = [job for what in _CURVES for job in _curves(what, group, prefix, title)]
    columns = _shared_headlines(group)
    drawn = columns[: _most_columns(len(group))]
    for i, column in enumerate(drawn):
        jobs += _of_column(column, group, slug(prefix, f"{i + 1}"), title)
    if len(group) == 1:
        jobs += _forest_of_tasks(group[0], columns, prefix, title)
    rest = ", ".join(dict.fromkeys(f"{c.task} {c.dataset}" for c in columns[len(drawn) :]))
    return jobs, f"In the tables alone, and above as differences to full: {rest}." if rest else ""


def _most_columns(num_blocks: int) -> int:
    """Metrics drawn against samples and seconds."""
    return 4 if num_blocks == 1 else 2 if num_blocks <= 4 else 1


def _shared_headlines(group: Sequence[Block]) -> list[Column]:
    return list(dict.fromkeys(column for block in group for column in data.headlines(block)))


_CURVES = {
    "kept": ("Share of the pool kept per epoch", "kept, % of the pool"),
    "lr": ("Learning rate at the end of each epoch", "learning rate"),
    "loss": ("Training loss per epoch", "mean loss of kept samples"),
}


def _curves(what: str, group: Sequence[Block], prefix: str, title: str) -> list[Job]:
    kind, unit = _CURVES[what]
    shown = [Curves(_name(block), found) for block in group if (found := data.curves(block, what))]
    seeds = "Thick: mean over seeds; thin: each seed, or a band from the lowest to the highest of more than 5."
    told = seeds if len(shown) == 1 else "Means over seeds."
    words = Words(f"{prefix}-{what}", kind, f"{title}. {told}")
    return [partial(plots.draw_curves, w, unit, part) for w, part in _parts(words, shown)]


def _of_column(column: Column, group: Sequence[Block], prefix: str, title: str) -> list[Job]:
    """One metric against samples, seconds and the pruning rate."""
    having = [block for block in group if column in block.columns]
    note = having[0].column_notes[column]
    what = f"{column.task} {column.dataset} {column.metric}"
    told = f"{title}. Large: mean over seeds; small: each seed, up to 5. Protocol {column.protocol}."
    told += f" {note}." if note else ""
    name = slug(prefix, column.task, column.dataset, column.metric)
    value = f"{column.metric}, %"
    jobs: list[Job] = []
    for kind, quantity, unit in (
        ("samples", "samples_seen", "samples seen"),
        ("seconds", "seconds", "seconds of training"),
    ):
        shown = [Scatter(_name(b), found) for b in having if (found := data.points(b, column, quantity))]
        extra = "".join(dict.fromkeys(map(data.left_out_devices, having))) if kind == "seconds" else ""
        words = Words(f"{name}-{kind}", f"{what} against {unit}", told + extra)
        jobs += [partial(plots.draw_fronts, w, unit, value, part) for w, part in _parts(words, shown)]
    shown = [Scatter(_name(b), _in_percent(b, column), data.baseline(b, column)) for b in having]
    shown = [one for one in shown if data.lines(one.points)]
    band = " Line across: full; its band: sd over seeds."
    words = Words(f"{name}-budgets", f"{what} against the pruning rate", told + band)
    return [*jobs, *(partial(plots.draw_budgets, w, value, part) for w, part in _parts(words, shown))]


def _in_percent(block: Block, column: Column) -> list[data.Point]:
    found = data.points(block, column, "pruning_rate")
    return [data.scaled(one, 100) for one in found]


_INTERVAL = (
    "Paired difference to full over common seeds; bar: 95 % t interval over the n seeds, none for one seed; an"
    " arrow where it leaves the panel."
)


def _forest_of_tasks(block: Block, columns: Sequence[Column], prefix: str, title: str) -> list[Job]:
    shown = [Forest(_task(c), found) for c in columns if (found := data.effects(block, c))]
    words = Words(f"{prefix}-differences", "Difference to full, task by task", f"{title}. {_INTERVAL}")
    return [partial(plots.draw_forest, w, part) for w, part in _parts(words, shown)]


def _overall(framework: str, blocks: Sequence[Block]) -> list[Job]:
    """Differences averaged over all configurations of a framework; nothing to average over one."""
    own = [block for block in blocks if block.key[0] == framework]
    shown = [Forest(_task(c), found) for c in _shared_headlines(own) if (found := data.average_effects(own, c))]
    if len(own) < 2 or all(effect.configurations < 2 for one in shown for effect in one.effects):
        return []
    caption = f"Averaged over configurations (conf.) seed by seed. {_INTERVAL}"
    words = Words(
        slug("00", framework, "differences"), f"{framework}: difference to full over all configurations", caption
    )
    return [partial(plots.draw_forest, w, part) for w, part in _parts(words, shown)]


def _task(column: Column) -> str:
    return f"{column.task} {column.dataset}, {column.metric}"


def _name(block: Block) -> str:
    return " ".join([block.key[1], *([block.note] if block.note else [])])


def _parts(words: Words, shown: list) -> list[tuple[Words, list]]:
    """Figures of at most ``MOST_PANELS`` panels."""
    starts = range(0, len(shown), MOST_PANELS)
    parts = [shown[start : start + MOST_PANELS] for start in starts]
    if len(parts) < 2:
        return [(words, part) for part in parts]
    return [
        (words._replace(name=f"{words.name}-{i + 1}", title=f"{words.title} ({i + 1} of {len(parts)})"), part)
        for i, part in enumerate(parts)
    ]
