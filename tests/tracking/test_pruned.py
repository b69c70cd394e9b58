"""What runs leave for the report of their pruning: visits, candidates' summaries, the gallery, and the file."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rank_processes import on_ranks
from tiny import clip_grid, moco_grid

from benchmark.job import process
from benchmark.plan.plan import PlannedRun
from benchmark.pool.samples import Pool, Sample, SampleError
from benchmark.pool.sources.digits import Digits
from benchmark.pool.sources.shapes import Shapes
from benchmark.pruner import pack
from benchmark.runs.pruned import (
    MOST_VISITS,
    THUMBNAIL,
    ClassCount,
    Preparation,
    Pruned,
    PrunedError,
    Shown,
    read_pruned,
    write_pruned,
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


@pytest.fixture
def pruned() -> Pruned:
    """A small file's content, made by hand."""
    sample = Shown("redundant", 3, "key-3", "a red circle", "circles", 2, [(1, 0.5), (3, 0.25)])
    return Pruned(
        fingerprint="f1f2f3f4",
        num_samples=4,
        epochs=4,
        visits_histogram=[0, 0, 1, 0, 3],
        classes=[ClassCount("circles", 1, 2), ClassCount("squares", 3, 12)],
        loss_edges=[0.0, 1.0, 2.0],
        preparations=[
            Preparation(1, {"redundant": 1}, {"all": [3, 1], "redundant": [1, 0]}, {"redundant": None}),
            Preparation(3, {"redundant": 1}, {"all": [3, 1], "redundant": [1, 0]}, {"redundant": 1.0}),
        ],
        cycles={"redundant": [3, 0, 1], "any": [3, 0, 1]},
        gallery=[sample],
        thumbnails=np.zeros((1, 8, 8, 3), dtype=np.uint8),
        visits=np.array([4, 4, 4, 2], dtype=np.uint8),
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


def test_the_file_reads_back_and_holds_no_pickle(tmp_path: Path, pruned: Pruned) -> None:
    path = tmp_path / "pruned.npz"
    write_pruned(path, pruned)
    found = read_pruned(path)
    assert found.gallery[0].key == "key-3"
    assert [list(pair) for pair in found.gallery[0].losses] == [[1, 0.5], [3, 0.25]]
    assert found.preparations == pruned.preparations
    assert np.array_equal(found.visits, pruned.visits)  # type: ignore[arg-type]
    write_pruned(path, dataclasses.replace(pruned, visits=None))
    assert read_pruned(path).visits is None


def test_the_largest_file_stays_under_300_kb(tmp_path: Path, pruned: Pruned) -> None:
    rng = np.random.default_rng(0)
    visits = rng.binomial(32, 0.7, MOST_VISITS).astype(np.uint8)
    losses = [(epoch, round(float(rng.random()), 4)) for epoch in range(32)]
    shown = dataclasses.replace(
        pruned.gallery[0], caption="".join(map(chr, rng.integers(32, 127, 200))), losses=losses
    )
    side = (24, THUMBNAIL, THUMBNAIL, 3)
    write_pruned(
        tmp_path / "pruned.npz",
        dataclasses.replace(
            pruned,
            num_samples=MOST_VISITS,
            epochs=32,
            visits=visits,
            visits_histogram=np.bincount(visits, minlength=33).tolist(),
            gallery=[shown] * 24,
            thumbnails=rng.integers(0, 256, side, dtype=np.uint8),
        ),
    )
    assert (tmp_path / "pruned.npz").stat().st_size < 300_000


def changed(path: Path, **changes: Any) -> None:
    """Write the file anew with other values in its index; arrays as they are."""
    with np.load(path) as content:
        arrays = {name: content[name] for name in content.files}
    for name in set(changes) & {"visits", "thumbnails"}:
        arrays[name] = changes.pop(name)
    index = {**json.loads(arrays["index"].tobytes()), **changes}
    arrays["index"] = np.frombuffer(json.dumps(index).encode(), dtype=np.uint8)
    with path.open("wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"schema": 2}, "schema: 2"),
        ({"epochs": -1}, "epochs"),
        ({"extra": 1}, "extra"),
        ({"num_samples": 5}, "visits_histogram"),
        ({"loss_edges": [0.0, 1.0]}, "preparations"),
        ({"gallery": [{"kind": "x"}]}, "gallery[0]"),
        ({"visits": np.zeros(3, dtype=np.uint8)}, "visits"),
        ({"visits": np.zeros(4)}, "visits"),
        ({"thumbnails": np.zeros((1, 8, 9, 3), dtype=np.uint8)}, "thumbnails"),
    ],
)
def test_what_does_not_fit_is_named_with_file_and_key(
    tmp_path: Path, pruned: Pruned, changes: dict[str, Any], key: str
) -> None:
    path = tmp_path / "pruned.npz"
    write_pruned(path, pruned)
    changed(path, **changes)
    with pytest.raises(PrunedError) as caught:
        read_pruned(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert key in str(caught.value)


def test_other_files_are_errors_that_name_them(tmp_path: Path, pruned: Pruned) -> None:
    path = tmp_path / "pruned.npz"
    with pytest.raises(FileNotFoundError):
        read_pruned(path)
    write_pruned(path, pruned)
    whole, foreign = path.read_bytes(), io.BytesIO()
    np.savez(foreign, keep=np.zeros(3))
    for content in (b"", b"no zip", whole[: len(whole) // 2], foreign.getvalue()):
        path.write_bytes(content)
        with pytest.raises(PrunedError, match=r"pruned\.npz"):
            read_pruned(path)


@pytest.mark.parametrize("source", [Shapes(num_samples=200), Digits(image_size=8)])
def test_pools_tell_classes_to_the_report_and_not_to_methods(source: Any) -> None:
    pool = source.training_pool()
    names, of = pool.sample_classes
    assert len(of) == pool.num_samples
    assert sorted(set(of.tolist())) == list(range(10)) == list(range(len(names)))
    assert "classes" not in vars(pool.view())
    assert not {"classes", "sample_classes"} & set(pool.view().features)


def test_the_class_of_shapes_is_what_the_picture_shows() -> None:
    pool = Shapes(num_samples=100).training_pool()
    names, of = pool.sample_classes
    for sample_id in range(100):
        things = pool.describe(sample_id)[0].things
        told = {1: f"one {things[0].shape}", 2: "two objects", 3: "three objects"}[len(things)]
        assert names[of[sample_id]] == told


def test_git_keeps_the_file_and_not_what_it_was_made_from() -> None:
    root = Path(__file__).parents[2]
    paths = {"results/s/r/pruned.npz": False, "results/s/r/marks/losses-0001.npy": True}
    for path, is_ignored in paths.items():
        assert (subprocess.run(["git", "check-ignore", "-q", path], cwd=root).returncode == 0) is is_ignored
