"""The headline table: methods by tasks in one grid, the mean difference to full data with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.blocks.rows import Column
from analysis.blocks.statistics import BySeed, mean_by_seed, paired_differences
from analysis.blocks.words import percent, points
from analysis.claims.configuration import Configuration
from analysis.figures.data import Effect, average_of
from analysis.figures.sections import task_name
from analysis.page.headline import Arm, Headline
from analysis.tables.cells import TASK_WORDS
from analysis.tables.names import FRAMEWORKS, configuration_name
from analysis.tables.paper import headline_columns
from analysis.tables.render import PaperCell, PaperRow, PaperTable


@dataclass(frozen=True)
class Task:
    """A column of the headline table: a task of a framework, its data sets averaged."""

    framework: str
    task: str

    @property
    def head(self) -> tuple[str, str]:
        return TASK_WORDS[self.task], FRAMEWORKS.get(self.framework, self.framework)


def headline_table(headline: Headline) -> PaperTable | None:
    """Methods by tasks in one grid: mean difference to full with its interval; None where nothing is compared."""
    tasks = list(dict.fromkeys(_tasks(headline.configurations)))
    compared = [arm for arm in headline.arms if any(_strata(headline, arm, task) for task in tasks)]
    if not compared:
        return None
    tasks.sort(key=lambda one: (one.framework, list(TASK_WORDS).index(one.task)))
    most = {task: max(len(_strata(headline, arm, task)) for arm in compared) for task in tasks}
    effects = {(arm.family, task): average_of(_strata(headline, arm, task)) for arm in compared for task in tasks}
    counts = [effect.n for effect in effects.values() if effect]
    usual = max(set(counts), key=counts.count) if counts else 0
    rows = [_full_row(headline, tasks)]
    for arm in compared:
        cells = [PaperCell((percent(arm.pruned),), facts={"mean": arm.pruned})]
        cells += [_cell(effects[arm.family, task], most[task], usual) for task in tasks]
        rows.append(PaperRow(arm.name, (*cells, _seconds(arm))))
    heads = [("pruned", "% of samples"), *(task.head for task in tasks), ("seconds", "of full's")]
    notes = _notes(headline, tasks, usual, [cell for row in rows for cell in row.cells])
    told = ("Methods by task", "method", tuple(heads), tuple(rows), tuple(notes))
    return PaperTable("headline", *told, is_one_grid=True)


def _tasks(configurations: Sequence[Configuration]) -> Iterator[Task]:
    for c in configurations:
        yield from (Task(c.key[0], column.task) for column in _columns(c))


def _columns(c: Configuration) -> list[Column]:
    return [column for column in headline_columns(c.block) if column not in c.block.marks]


def _strata(headline: Headline, arm: Arm, task: Task) -> list[BySeed]:
    """Of each configuration that has the task, the method's difference to full over its data sets."""
    strata: list[BySeed] = []
    for i, row in arm.rows.items():
        c = headline.configurations[i]
        if c.key[0] == task.framework and c.full is not None:
            own = [column for column in _columns(c) if column.task == task.task]
            found = [paired_differences(row.values.get(one, {}), c.full.values.get(one, {})) for one in own]
            if values := mean_by_seed([one for one in found if one]):
                strata.append(values)
    return strata


def _full_row(headline: Headline, tasks: Sequence[Task]) -> PaperRow:
    cells = [PaperCell(("0.0",), facts={"mean": 0.0})]
    for task in tasks:
        strata = []
        for c in headline.configurations:
            if c.key[0] == task.framework and c.full is not None:
                own = [c.full.values.get(column, {}) for column in _columns(c) if column.task == task.task]
                strata.append(mean_by_seed([one for one in own if one]))
        effect = average_of([one for one in strata if one])
        text = f"{effect.mean:.1f} %" if effect else "—"
        cells.append(PaperCell((text,), facts={"mean": effect.mean / 100, "n": effect.n} if effect else {}))
    return PaperRow("full data", (*cells, PaperCell(("1",), facts={"mean": 1.0})))


def _cell(effect: Effect | None, most: int, usual: int) -> PaperCell:
    if effect is None:
        return PaperCell(("—",))
    settles = effect.interval is not None and (effect.interval[0] > 0 or effect.interval[1] < 0)
    marks = "*" * settles + "†" * (effect.configurations < most) + "‡" * (effect.n != usual)
    ends = effect.interval if effect.interval is not None else effect.points if effect.n == 2 else ()
    told = ", ".join(f"{end:+.1f}" for end in ends).replace("-", "−")  # an end of −0.0 is below 0
    brackets = "[]" if effect.interval is not None else "()"
    text = f"{points(effect.mean / 100)}{marks}" + (f" {brackets[0]}{told}{brackets[1]}" if told else "")
    low, high = effect.interval or (None, None)
    facts = {
        "difference": effect.mean / 100, "n_difference": effect.n, "configurations": effect.configurations,
        "difference_ci95_low": low and low / 100, "difference_ci95_high": high and high / 100,
    }  # fmt: skip
    return PaperCell((text,), is_best=settles, facts=facts)


def _seconds(arm: Arm) -> PaperCell:
    ratios = [row.quantities["seconds"].ratio for row in arm.rows.values()]
    known = [ratio.mean for ratio in ratios if ratio]
    if not known:
        return PaperCell(("—",))
    mean = sum(known) / len(known)
    return PaperCell((f"{mean:.2f}",), facts={"mean": mean})


def _notes(headline: Headline, tasks: Sequence[Task], usual: int, cells: Sequence[PaperCell]) -> list[str]:
    counts = {
        FRAMEWORKS.get(f, f): sum(c.key[0] == f for c in headline.configurations)
        for f in dict.fromkeys(task.framework for task in tasks)
    }
    over = " and ".join(f"{n} {name} configuration{'s' * (n > 1)}" for name, n in counts.items())
    notes = [
        f"Full data: mean in percent. Methods: paired difference to it in points, with its 95 % interval over n ="
        f" {usual} seeds{' (in round brackets: both seeds)' if usual == 2 else ''}; averaged over the data sets of"
        f" a task, then over {over}. Seconds: on the same device."
    ]
    left_out = {
        f"{configuration_name(*c.key, c.block.note)}: {task_name(column)} ({c.block.marks[column]})"
        for c in headline.configurations
        for column in headline_columns(c.block)
        if column in c.block.marks
    }
    if left_out:
        notes.append(f"In no average, by full data alone: {'; '.join(sorted(left_out))}.")
    told = {
        "*": "the interval does not hold 0 (no correction for the number of cells)",
        "†": "fewer configurations than other methods of the column",
        "‡": "another number of seeds",
    }
    shown = "".join(cell.lines[0] for cell in cells)
    notes += [f"{mark} {words}." for mark, words in told.items() if mark in shown]
    return notes
