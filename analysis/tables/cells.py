"""Values over seeds -> cells of the paper's tables, and which budgets may stand side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.blocks.rows import Cell
from analysis.blocks.statistics import BySeed, Difference, Interval, best_of, paired, spread
from analysis.blocks.words import held_lines, percent, points
from analysis.read.results import Run
from analysis.tables.render import PaperCell

SAME_BUDGET = 0.025
"""Two methods have one budget if no gap in the measured pruned share parts them by more than this."""

HEADLINES = {
    "zero_shot": ("top1",),
    "retrieval": ("image_to_text_r1", "text_to_image_r1"),
    "linear_probe": ("top1",),
    "few_shot": ("top1_16_shot",),
    "knn": ("top1",),
    "finetune": ("top1",),
}
"""The metrics of a task that a paper's table shows; a task measured by none of them shows its first."""

TASK_WORDS = {
    "zero_shot": "zero-shot",
    "retrieval": "retrieval",
    "linear_probe": "linear probe",
    "few_shot": "few-shot probe",
    "knn": "k-NN",
    "finetune": "fine-tuning",
}


PRIMARY = "primary"


@dataclass(frozen=True)
class PublishedValue:
    """What the paper has where a value of ours stands."""

    value: float
    """A fraction."""
    pruned: float
    """Share of the samples left out there."""
    source: str
    """The paper itself, ``PRIMARY``, or a text about it."""


def set_beside(cell: PaperCell, published: PublishedValue | None) -> PaperCell:
    """The cell with the paper's value and what ours is more; in no statistic."""
    if published is None:
        return cell
    more = cell.facts["mean"] - published.value
    checked = "" if published.source == PRIMARY else " (not checked)"
    line = f"paper {100 * published.value:.2f}{checked}, Δ {points(more)}"
    facts = {"published": published.value, "published_difference": more, "published_source": published.source}
    return replace(cell, published=(line,), facts={**cell.facts, **facts})


def interval_text(interval: Interval, number: Callable[[float], str] = points) -> str:
    return f"[{number(interval[0])}, {number(interval[1])}]"


def delta_text(delta: Difference, name: str = "Δ", number: Callable[[float], str] = points) -> str:
    interval = f" {interval_text(delta.ci95, number)}" if delta.ci95 else ""
    return f"{name} {number(delta.mean)}{interval} (n = {delta.n})"


def value_text(values: BySeed, asked: int = 0, number: Callable[[float], str] = percent) -> str:
    """``37.5 (sd 1.0, n = 2 of 3)``; ``missing`` without a value."""
    over = spread(values.values())
    if over is None:
        return "missing"
    sd = f"sd {number(over.sd)}, " if over.sd is not None else ""
    return f"{number(over.mean)} ({sd}n = {over.n}{f' of {asked}' if asked > over.n else ''})"


def value_cell(
    values: BySeed,
    base: BySeed | None,
    runs: Sequence[Run],
    cell: Cell,
    *,
    more: Sequence[str] = (),
    is_best: bool = False,
    name: str = "Δ",
) -> PaperCell:
    """Mean, sd and n in percent, the paired difference to ``base`` where there is one, and what the controls say.

    ``cell`` is the main table's.
    """
    over = spread(values.values())
    delta = paired(values, base) if base is not None else None
    lines = [
        value_text(values, cell.asked),
        *([delta_text(delta, name)] if delta else []),
        *more,
        *held_lines(cell),
    ]
    facts: dict[str, Any] = {
        "n": over.n if over else 0, "mean": over and over.mean, "sd": over and over.sd,
        **difference_facts(delta), **(held_facts(cell) if cell.held else {}),
    }  # fmt: skip
    used = tuple(run for run in runs if run.record["seed"] in values)
    return PaperCell(tuple(lines), is_best, over is None, used, facts)


def difference_facts(delta: Difference | None) -> dict[str, Any]:
    low, high = delta.ci95 if delta and delta.ci95 else (None, None)
    return {
        "n_difference": delta.n if delta else None, "difference": delta and delta.mean,
        "difference_ci95_low": low, "difference_ci95_high": high,
    }  # fmt: skip


def held_facts(cell: Cell) -> dict[str, Any]:
    held = cell.held
    untrained = held.untrained if held else None
    return {
        "pixels": held and held.pixels, "is_below_pixels": cell.is_below_pixels,
        "untrained": untrained and untrained.mean, "untrained_n": untrained and untrained.n,
        "gain_kept": held and held.gain_kept, "gain_kept_n": held.gain_seeds if held else None,
    }  # fmt: skip


def pruned_share(runs: Iterable[Run]) -> float:
    """Mean measured pruned share; 0 without runs."""
    rates = [run.record["training"]["pruning_rate"] for run in runs]
    return sum(rates) / len(rates) if rates else 0.0


def budgets(pruned: Mapping[str, float], gap: float = SAME_BUDGET) -> dict[str, int]:
    """Name -> number of its class: shares in order, a new class after each gap above ``gap``."""
    classes: dict[str, int] = {}
    number, last = 0, None
    for name in sorted(pruned, key=lambda name: pruned[name]):
        number += last is not None and pruned[name] - last > gap + 1e-9
        classes[name], last = number, pruned[name]
    return classes


def best_by_budget(values: Mapping[str, BySeed], classes: Mapping[str, int]) -> set[str]:
    """In each class of one budget, the name that a paired test puts above each other, if there is one."""
    alike: dict[int, dict[str, BySeed]] = {}
    for name, own in values.items():
        alike.setdefault(classes[name], {})[name] = own
    return {best for group in alike.values() if (best := best_of(group)) is not None}
