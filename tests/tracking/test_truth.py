"""Pruning against planted truth: flags, groups of near-duplicates, and what chance would give."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from tiny import clip_grid

from benchmark.job import process
from benchmark.plan.plan import PlannedRun
from benchmark.pool.sources.shapes import Shapes
from benchmark.runs.folder import RECORD_FILE
from benchmark.runs.record import read_record
from benchmark.tracking.truth import TruthTracker

GROUPS = np.array([7, -1, 7, 3, -1, 3, 3, -1])
"""A pair (0, 2), a triple (3, 5, 6) and three samples in no group: 3 redundant copies of 8 samples."""


def row(*dropped: list[int], truth: np.ndarray = GROUPS) -> dict[str, float]:
    """What a record says of epochs that dropped these samples."""
    tracker = TruthTracker({"copies": truth}, len(truth))
    for ids in dropped:
        tracker.end_epoch(~np.isin(np.arange(len(truth)), ids))
    (found,) = tracker.rows({})
    return found


@pytest.mark.parametrize(
    ("dropped", "found"),
    [
        ([2], 1),
        ([0], 1),  # the original may go as well as its copy
        ([0, 2], 1),  # but not both
        ([3, 6], 2),
        ([3, 5, 6], 2),
        ([0, 3, 5], 3),
        ([1, 4, 7], 0),
    ],
)
def test_of_a_group_all_but_one_are_redundant_whichever_stays(dropped: list[int], found: int) -> None:
    told = row(dropped)
    assert told["base_rate"] == 3 / 8
    assert told["precision"] == found / len(dropped)
    assert told["recall"] == found / 3


def test_precision_and_recall_are_over_all_epochs_that_drop_anything() -> None:
    told = row([], [2], [0, 1, 3])
    assert (told["precision"], told["recall"]) == (3 / 4, 3 / 6)


@pytest.mark.parametrize("count", range(1, 8))
@pytest.mark.parametrize("truth", [GROUPS, GROUPS >= 0])
def test_chance_is_the_mean_over_all_samples_of_that_size(count: int, truth: np.ndarray) -> None:
    every = [row(list(ids), truth=truth) for ids in itertools.combinations(range(8), count)]
    for share in ("precision", "recall"):
        assert every[0][f"random_{share}"] == pytest.approx(np.mean([told[share] for told in every]))


def test_the_copies_of_shapes_are_grouped_with_their_originals() -> None:
    pool = Shapes(num_samples=300, near_duplicates=0.3).training_pool()
    groups, copies = pool.truth["redundant_copy"], pool.truth["near_duplicate"]
    assert np.array_equal(groups[copies], pool.original_of[copies])
    assert np.array_equal(np.flatnonzero((groups >= 0) & ~copies), np.unique(pool.original_of[copies]))
    told = row(list(np.flatnonzero(copies)), truth=groups)
    assert (told["base_rate"], told["precision"], told["recall"]) == (0.3, 1, 1)


def test_a_state_from_before_chance_was_counted_gives_no_rows() -> None:
    tracker = TruthTracker({"copies": GROUPS}, 8)
    tracker.end_epoch(np.arange(8) > 2)
    state = tracker.state_dict()
    del state["random_hits"]
    resumed = TruthTracker({"copies": GROUPS}, 8)
    resumed.load_state_dict(state)
    resumed.end_epoch(np.arange(8) > 2)
    assert resumed.rows({}) == []


def test_a_record_holds_what_its_method_left_out(planned: Callable[..., list[PlannedRun]]) -> None:
    (run,) = planned(clip_grid(pruner={"random_subset": {"keep_fraction": 0.5}}, train={"epochs": 1}))
    process.run(run.folder)
    rows = {told["flag"]: told for told in read_record(run.folder / RECORD_FILE)["pruning_truth"]}
    assert list(rows) == ["near_duplicate", "redundant_copy", "ill_matched"]
    assert rows["ill_matched"]["random_precision"] == rows["ill_matched"]["base_rate"]
    copies = rows["redundant_copy"]
    assert copies["base_rate"] < copies["random_precision"]
    assert 0.5 < copies["random_recall"] < 1
