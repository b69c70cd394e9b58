"""Evaluations on slices of their data: from what slices of two sizes take follows what all of it will."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark.config.run import Choice, as_choice
from benchmark.evaluate.run import named
from benchmark.evaluate.task import Task, make_task
from benchmark.options import plain
from benchmark.pool.samples import PoolError
from benchmark.pool.source import LabelledSet, Source, data_set
from benchmark.rehearsal.standins import StandIns

CLASSES = 16
A_CLASS = 4
LARGE = 4
"""How many times the small slice the large one is."""
SLICES = ((1, 0), (1, 1), (LARGE, 2))
"""Size and seed. The first bears what is done once (imports, prompts, plans of kernels) and is not counted."""
PASSES = 2
"""Epochs of fine-tuning on a slice."""
BACKWARD = 3
"""What an image costs that is trained on, where one that is encoded costs 1."""
PUBLISHED = {
    "imagenet": (1_281_167, 50_000, 1000, 80),
    "imagenet_v2": (0, 10_000, 1000, 80),
    "imagenet_a": (0, 7_500, 200, 80),
    "imagenet_r": (0, 30_000, 200, 80),
    "imagenet_sketch": (0, 50_889, 1000, 80),
    "cifar10": (50_000, 10_000, 10, 18),
    "cifar100": (50_000, 10_000, 100, 18),
}
"""Images of train and test split, classes and prompts of each: what stand-ins are scaled to."""
PUBLISHED_PAIRS = {"coco_captions": (5_000, 25_010), "flickr30k": (1_000, 5_000)}
"""Images and captions."""


@dataclass(frozen=True)
class Sliced:
    """One evaluation of a run, and what stands for it."""

    name: str
    slices: tuple[Choice, ...] = ()
    units: tuple[float, ...] = ()
    """Of each slice: images and texts that are encoded, ``BACKWARD`` for an image each time it is trained on."""
    whole: float = 0.0
    """Units of all the data."""
    note: str = ""
    """What has to be said: that its data is not there."""

    def seconds(self, took: Sequence[float]) -> float | None:
        """What all of the data takes, ``took`` being what the slices did; None if there are no slices."""
        if len(took) != len(SLICES):
            return None
        once = max(0.0, took[0] - took[1])
        more, units = took[2] - took[1], self.units[2] - self.units[1]
        if more <= 0 or units <= 0:  # too little to tell apart: as if all of it were work
            return once + took[2] * self.whole / self.units[2]
        return max(took[2], once + took[2] + more / units * (self.whole - self.units[2]))


@dataclass
class Slicer:
    """Cuts evaluations; what is the same for many runs is opened once."""

    standins: StandIns
    known: dict[str, Sliced] = field(default_factory=dict)

    def of(self, choice: Choice) -> Sliced:
        key = json.dumps([choice.name, plain(choice.options)], sort_keys=True)
        if key not in self.known:
            self.known[key] = self._sliced(choice)
        return self.known[key]

    def _sliced(self, choice: Choice) -> Sliced:
        task = make_task(choice, "evaluate")
        name = f"{choice.name} on {named(task)}"
        absent = [place for place in task.data_sets if not _opens(task, place)]
        if any(_standin(self.standins, task, place) is None for place in absent):
            return Sliced(name, note=f"{name}: its data is not there, and nothing stands in for it: not rehearsed")
        if "dataset" not in absent:
            try:
                task.check_data()
            except PoolError as error:
                return Sliced(name, note=f"{name}: will be skipped: {error}")

        def cut(size: int, seed: int) -> Choice:
            def one(place: str) -> Any:
                found = _standin(self.standins, task, place) if place in absent else None
                asked = plain(task.data_sets[place]) if found is None else {found.name: found.options}
                share = 1.0 if found is not None else min(1.0, CLASSES / max(1, _num_classes(task)))
                many = size * CLASSES * max(A_CLASS, *(k + A_CLASS for k in getattr(task, "shots", [0])))
                return {"subset": {"of": asked, "num_samples": many, "class_share": share, "seed": seed}}

            return _with_sets(choice, task, one)

        slices = tuple(cut(size, seed) for size, seed in SLICES)
        units = tuple(_units(make_task(part, "evaluate"), {}) for part in slices)
        note = f"{name}: its data is not there, made-up images stand in for it" if absent else ""
        return Sliced(name, slices, units, _units(task, {place: _set_name(task, place) for place in absent}), note)


def _with_sets(choice: Choice, task: Task, one: Callable[[str], Any]) -> Choice:
    """The evaluation with other data sets, and few epochs where it trains."""
    options = dict(plain(choice.options))
    for place in task.data_sets:
        key, _, number = place.rstrip("]").partition("[")
        if number:
            options[key] = [*options[key][: int(number)], one(place), *options[key][int(number) + 1 :]]
        else:
            options[key] = one(place)
    if task.passes > PASSES:
        options["epochs"] = PASSES
    return Choice(name=choice.name, options=options)


def _units(task: Task, absent: dict[str, str]) -> float:
    """``absent``: the published name of each set that cannot be opened."""
    total = 0.0
    for place in task.data_sets:
        for name in _reads(task, place):
            total += (
                _published_units(task, absent[place], name)
                if place in absent
                else _units_of(task, _source(task, place), name)
            )
    return total


def _units_of(task: Task, source: Source, name: str) -> float:
    if name == "pairs":
        pairs = source.pairs()
        return len(pairs.images) + len(pairs.captions)
    found = source.labelled(name)
    return _weight(task, name) * len(found.images) + _texts(
        task, name, len(found.class_names), len(found.templates)
    )


def _published_units(task: Task, published: str, name: str) -> float:
    if name == "pairs":
        return sum(PUBLISHED_PAIRS[published])
    train, test, classes, prompts = PUBLISHED[published]
    return _weight(task, name) * (train if name == "train" else test) + _texts(task, name, classes, prompts)


def _weight(task: Task, split: str) -> float:
    return BACKWARD * task.passes if split == "train" and task.passes else 1.0


def _texts(task: Task, split: str, classes: int, prompts: int) -> float:
    return classes * prompts if task.needs_text and split == "test" else 0.0


def _set_name(task: Task, place: str) -> str:
    return as_choice(task.data_sets[place], place).name


def _num_classes(task: Task) -> int:
    if "pairs" in task.reads:
        return 1
    found = task.source().labelled(task.reads[-1])
    assert isinstance(found, LabelledSet)
    return len(found.class_names)


def _opens(task: Task, place: str) -> bool:
    source = _source(task, place)
    try:
        for name in _reads(task, place):
            source.pairs() if name == "pairs" else source.labelled(name)
    except PoolError:
        return False
    return True


def _source(task: Task, place: str) -> Source:
    return task.source() if place == "dataset" else data_set(as_choice(task.data_sets[place], place), place)


def _reads(task: Task, place: str) -> tuple[str, ...]:
    return task.reads if place == "dataset" else ("test",)


def _standin(standins: StandIns, task: Task, place: str) -> Choice | None:
    name = _set_name(task, place)
    if place == "dataset" and "pairs" in task.reads:
        return standins.pairs(name) if name in PUBLISHED_PAIRS else None
    return standins.labelled(name) if name in PUBLISHED else None
