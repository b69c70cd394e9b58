"""Test sets beside a task's own: what was trained on its train split is measured on them too (``test_on``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmark.config.run import as_choice
from benchmark.evaluate.task import Part
from benchmark.options import require
from benchmark.pool.samples import PoolError
from benchmark.pool.source import LabelledSet, TestSet, TrainSet, data_set


class Further(NamedTuple):
    """A set that was opened."""

    asked: Any
    """Name, or ``{name: options}``."""
    test: TestSet
    places: np.ndarray
    """Where its classes stand among those that are trained on, int64 [C of the set]."""


def check_test_on(dataset: Any, test_on: Sequence[Any] | None) -> None:
    """Raise ValueError for a set that is named twice, or is the task's own."""
    asked = [dataset, *(test_on or ())]
    for one in test_on or ():
        require(asked.count(one) == 1, "test_on", "sets that differ, and not the data set itself", one)


def data_sets_of(test_on: Sequence[Any] | None) -> Mapping[str, Any]:
    """Where each stands among the options -> the set as it was asked for."""
    return {f"test_on[{i}]": one for i, one in enumerate(test_on or ())}


def opened(test_on: Sequence[Any] | None, train: TrainSet) -> tuple[list[Further], list[Part]]:
    """The sets that can be measured on, and a part with the reason for each other; before any training."""
    found, others = [], []
    for asked in test_on or ():
        try:
            test = data_set(as_choice(asked, "test_on"), "test_on").test_set()
        except PoolError as error:
            others.append(Part(dataset=asked, skipped=str(error), data_found=False))
            continue
        try:
            test.check_measurable()
            found.append(Further(asked, test, places_of(test, train)))
        except PoolError as error:
            others.append(Part(dataset=asked, skipped=str(error)))
    return found, others


def places_of(test: LabelledSet, train: LabelledSet) -> np.ndarray:
    """Where each class of ``test`` stands among those of ``train``: int64 [classes of ``test``].

    The logits at these places are what a test set of some of the classes is measured by (``project_logits`` of
    mlfoundations/wise-ft for ImageNet-R and -A, as the sets' own code has it). Raises PoolError for a class that
    ``train`` has not, or has twice.
    """
    by_id = bool(test.class_ids and train.class_ids)
    own, known = (list(s.class_ids if by_id else s.class_names) for s in (test, train))
    for name in own:
        if known.count(name) != 1:
            raise PoolError(
                f"{test.name} has a class '{name}', which {train.name} has {known.count(name)} times:"
                " test_on takes sets of the classes that are trained on"
            )
    return np.array([known.index(name) for name in own], dtype=np.int64)
