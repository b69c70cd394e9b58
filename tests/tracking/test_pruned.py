"""What runs leave for the report of their pruning: visits, candidates' summaries, the gallery, and the file."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rank_processes import on_ranks
from tiny import clip_grid, moco_grid

from benchmark.job import process
from benchmark.plan.plan import PlannedRun
from benchmark.pool.samples import Pool, Sample, SampleError
from benchmark.pruner import pack
from benchmark.runs.pruned import (
    ClassCount,
    Pruned,
    read_pruned,
)
from benchmark.tracking.gallery import by_loss, left_out, most_often, shown
from benchmark.tracking.summary import class_counts, common_edges, histogram, how_often, preparations
from benchmark.tracking.visits import VisitTracker
from benchmark.training import checkpoint, trainer

Plan = Callable[..., list[PlannedRun]]
SCAN = clip_grid(
    pruner={"scan": {"warmup_threshold": 1.0, "cycle": 1}},  # prepare in epochs 2 and 4, drop all in 3 and 5
    train={"epochs": 6, "checkpoint_minutes": 0.0},
)


def left(run: PlannedRun) -> Pruned:
    return read_pruned(run.folder / "pruned.npz")


def trained_on(run: PlannedRun, monkeypatch: pytest.MonkeyPatch) -> dict[int, Counter[int]]:
    """Work on a run; ids by epoch, as its steps saw them."""
    found: dict[int, Counter[int]] = {}
    step = trainer.Trainer._step

    def spy(self: trainer.Trainer, *rest: Any) -> None:
        epoch = self.now.epoch
        step(self, *rest)
        found.setdefault(epoch, Counter()).update(self._pending[-1][0].tolist())

    monkeypatch.setattr(trainer.Trainer, "_step", spy)
    assert process.run(run.folder) == "done"
    monkeypatch.setattr(trainer.Trainer, "_step", step)
    return found


def same(one: Pruned, other: Pruned) -> bool:
    arrays = ("visits", "thumbnails")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays) and all(
        getattr(one, f.name) == getattr(other, f.name) for f in dataclasses.fields(Pruned) if f.name not in arrays
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "grid",
    [
        SCAN,
        clip_grid(pruner={"random_dynamic": {"keep_fraction": 0.6}}),
        clip_grid(pruner={"dissect": {"warmup_epochs": 1}}),
        moco_grid(pruner="infobatch"),
    ],
    ids=["scan", "random_dynamic", "dissect", "infobatch"],
)
def test_visits_are_the_epochs_whose_steps_trained_on_a_sample(
    planned: Plan, monkeypatch: pytest.MonkeyPatch, grid: dict[str, Any]
) -> None:
    (run,) = planned(grid)
    seen = trained_on(run, monkeypatch)
    found = left(run)
    assert found.visits is not None
    assert found.visits.tolist() == [sum(i in ids for ids in seen.values()) for i in range(found.num_samples)]
    assert found.visits_histogram == np.bincount(found.visits, minlength=found.epochs + 1).tolist()
    assert sum(one.visits for one in found.classes) == found.visits.sum()
    assert all(one.visits == found.visits[one.id] for one in found.gallery)


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 19, 28])
def test_a_run_that_was_killed_leaves_the_same_file(planned: Plan, step: int) -> None:
    (whole,), (run,) = planned(SCAN, results="whole"), planned(SCAN)
    assert process.run(whole.folder) == "done"
    child = os.fork()
    if child == 0:
        original, calls = trainer.Trainer._step, iter(range(10**6))

        def deadly(self: trainer.Trainer, *rest: Any) -> None:
            if next(calls) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            original(self, *rest)

        trainer.Trainer._step = deadly  # type: ignore[method-assign]
        process.run(run.folder)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert process.run(run.folder) == "done"
    assert same(left(run), left(whole))
    assert len(left(run).preparations) == 2


@pytest.mark.slow
def test_two_ranks_count_the_visits_of_both(planned: Plan) -> None:
    (alone,), (run,) = planned(SCAN, results="alone"), planned(SCAN)
    process.run(alone.folder)
    assert on_ranks(2, lambda rank: process.run(run.folder)) == ["done", "done"]
    one, two = left(alone), left(run)
    assert np.array_equal(one.visits, two.visits)  # type: ignore[arg-type]
    assert [p.counts for p in one.preparations] == [p.counts for p in two.preparations]


@pytest.mark.slow
def test_a_run_from_before_visits_were_counted_goes_on_and_leaves_no_file(planned: Plan) -> None:
    (run,) = planned(SCAN)
    folder = run.folder / "checkpoint"
    process.run(run.folder)
    newest = max(folder.glob("step-*.pt"))
    state = checkpoint.load_newest(folder)
    assert state is not None
    del state["visits"]
    checkpoint.save(folder, state, int(newest.stem.removeprefix("step-")))
    for name in ("pruned.npz", "record.json"):
        (run.folder / name).unlink()
    assert process.run(run.folder) == "done"
    assert not (run.folder / "pruned.npz").exists()


@pytest.mark.slow
def test_candidates_are_summed_up_as_the_method_marked_them(planned: Plan) -> None:
    (run,) = planned(SCAN)
    process.run(run.folder)
    found = left(run)
    assert [one.epoch for one in found.preparations] == [2, 4]
    marks = [np.load(path) for path in sorted((run.folder / "marks").glob("epoch-*.npy"))]
    for kind, bit in (("redundant", 128), ("ill_matched", 64)):
        masks = [mark & bit > 0 for mark in marks]
        assert [one.counts[kind] for one in found.preparations] == [mask.sum() for mask in masks]
        assert found.preparations[1].jaccard[kind] == (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
        assert found.cycles[kind] == np.bincount(masks[0] * 1 + masks[1], minlength=3).tolist()
        assert sum(found.preparations[0].histograms[kind]) == masks[0].sum()
    assert sum(found.preparations[0].histograms["all"]) == 64
    assert {one.kind for one in found.gallery} == {"redundant", "ill_matched"}
    last: dict[str, list[float]] = {}
    for one in found.gallery:
        last.setdefault(one.kind, []).append(one.losses[-1][1])
    assert np.mean(last["redundant"]) < np.mean(last["ill_matched"])


def test_masks_of_three_preparations_are_counted_by_sample() -> None:
    masks = [
        {"a": np.array([1, 1, 0, 0], dtype=bool), "b": np.array([0, 1, 1, 0], dtype=bool)},
        {"a": np.array([1, 0, 0, 0], dtype=bool), "b": np.array([0, 0, 1, 0], dtype=bool)},
        {"a": np.array([1, 0, 0, 0], dtype=bool), "b": np.array([0, 1, 0, 0], dtype=bool)},
    ]
    found = how_often(masks)
    assert {kind: count.tolist() for kind, count in found.items()} == {
        "a": [3, 1, 0, 0],
        "b": [0, 2, 2, 0],
        "any": [3, 2, 2, 0],
    }
    bits = {epoch: {k: pack(m) for k, m in one.items()} for epoch, one in enumerate(masks)}
    told = preparations(bits, {}, np.zeros(0), 4)
    assert [one.jaccard for one in told] == [{"a": None, "b": None}, {"a": 1 / 2, "b": 1 / 2}, {"a": 1, "b": 0}]


def test_losses_beyond_the_edges_count_in_the_outer_bins_and_nan_in_none() -> None:
    assert histogram(np.array([-5, 0.5, 1.5, 9, np.nan]), np.array([0.0, 1.0, 2.0])) == [2, 2]
    edges = common_edges([np.array([1.0, 2.0, np.nan]), np.array([0.0, 1.0])])
    assert (round(edges[0], 2), round(edges[-1], 2), len(edges)) == (0, 2, 41)
    assert len(common_edges([np.array([np.nan])])) == 0


def test_classes_without_samples_are_left_out() -> None:
    classes = (["none", "two", "one"], np.array([1, 2, 1]))
    assert class_counts(classes, np.array([3, 1, 2])) == [ClassCount("two", 2, 5), ClassCount("one", 1, 1)]
    assert class_counts(None, np.array([3])) == []


def test_a_gallery_takes_the_candidates_of_most_cycles_then_the_extreme_losses() -> None:
    times = {"low": np.array([2, 0, 1, 2, 0, 0]), "high": np.array([0, 1, 0, 0, 2, 1])}
    loss = np.array([0.3, 8.0, 0.1, 0.2, 7.0, 9.0])
    picks = most_often(times, loss)
    assert {kind: ids.tolist() for kind, ids in picks.items()} == {"low": [3, 0, 2], "high": [4, 5, 1]}
    ends = by_loss(np.array([0.3, np.nan, 0.1, 5.0]))
    assert {kind: ids.tolist() for kind, ids in ends.items()} == {"lowest_loss": [2], "highest_loss": [3]}
    assert sorted(left_out(np.array([4, 0, 4, 0]), seed=0)["left_out"]) == [1, 3]


class Odd(Pool):
    """Wide pictures with long captions that no encoding holds; sample 0 is damaged."""

    num_samples, fingerprint = 3, "odd"

    def read(self, sample_id: int) -> Sample:
        if sample_id == 0:
            raise SampleError("image_undecodable", "broken")
        return Sample(Image.new("RGB", (100, 50), "red"), "\ud800" + "x" * 300)


def test_what_cannot_be_read_is_passed_over_and_the_rest_made_small() -> None:
    visits = np.array([1, 2, 3])
    found, thumbnails = shown({"k": np.array([0, 2])}, Odd(), visits, {4: np.array([1, 2, np.nan])})
    ((one,), told) = found, thumbnails
    assert (one.id, one.visits, one.losses, one.class_name, one.key) == (2, 3, [], None, "2")
    assert len(one.caption) == 200
    one.caption.encode()
    assert told.shape == (1, 48, 48, 3)
    assert told[0, 24, 24].tolist() == [255, 0, 0]
    assert told[0, 0, 0].tolist() == [255, 255, 255]


def test_state_in_mid_epoch_is_taken_up() -> None:
    tracker, resumed = VisitTracker(4), VisitTracker(4)
    tracker.visit(np.array([0, 2]))
    tracker.observe(np.array([0, 2]), np.array([[1, 2], [1e6, 1e6]], dtype=np.float32))
    tracker.pass_over(3)
    resumed.load_state_dict(tracker.state_dict())
    losses = resumed.end_epoch(np.array([True, True, True, False]))
    assert losses is not None
    assert losses.tolist()[::2] == [1.5, 65504]
    assert (resumed.visits.tolist(), resumed.dropped, resumed.end_epoch(np.ones(4, dtype=bool))) == (
        [1, 0, 1, 0],
        4,
        None,
    )
