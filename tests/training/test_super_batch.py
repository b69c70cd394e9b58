"""Super-batches: what methods choose, that the choice is what is trained on, and that scoring leaves no trace."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import TINY_CLIP, clip_grid, moco_grid

from baselines._super_batch import highest
from baselines.big_loss import BigLoss
from baselines.dissect import Dissect
from baselines.full import Full
from baselines.small_loss import SmallLoss
from benchmark.config.run import Choice
from benchmark.job import process
from benchmark.models.clip import objective as clip
from benchmark.models.moco import objective as moco
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.pool.samples import PoolView
from benchmark.pruner import EpochPlan, Pruner
from benchmark.runs.record import read_record, validate
from benchmark.tracking.truth import TruthTracker
from benchmark.training import super_batch
from benchmark.training.order import super_batch_size

Plan = Callable[..., list[PlannedRun]]
N, S, B = 64, 16, 8
VISION = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32, "head_width": 32}
SMALL_RESNET = {"small_resnet": {**TINY_CLIP["tiny"], "vision_cfg": VISION}}


def ready(method: Any, seed: int = 0) -> Any:
    method.setup(PoolView(N, "test"), num_epochs=6, seed=seed)
    return method


def scored(epoch: int, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A super-batch of an epoch that visits each id once: ids, losses, similarity."""
    ids = np.random.default_rng(epoch).permutation(N).reshape(-1, S)[step]
    rng = np.random.default_rng([epoch, step])
    return ids, rng.exponential(size=(S, 2)).astype(np.float32), rng.uniform(-0.5, 1, S).astype(np.float32)


def slowly_highest(score: list[float], count: int) -> list[int]:
    return sorted(sorted(range(len(score)), key=lambda i: (-score[i], i))[:count])


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.data())
def test_the_highest_scores_are_chosen_and_of_equal_ones_the_first(score: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(score)))
    found = highest(np.array(score, dtype=np.float32), count)
    assert found.tolist() == slowly_highest([float(x) for x in score], count)


@pytest.mark.parametrize(("method", "sign"), [(SmallLoss(), -1), (BigLoss(), 1)])
def test_small_and_big_loss_take_one_end_of_the_mean_loss(method: Pruner, sign: int) -> None:
    ready(method)
    for step in range(N // S):
        ids, losses, similarity = scored(0, step)
        means = [sign * (float(a) + float(b)) / 2 for a, b in losses]
        assert method.choose(0, step, ids, losses, similarity, B).tolist() == slowly_highest(means, B)


def test_the_two_ends_at_one_half_share_a_super_batch() -> None:
    ids, losses, similarity = scored(0, 0)
    small, big = (ready(m).choose(0, 0, ids, losses, similarity, B) for m in (SmallLoss(), BigLoss()))
    assert sorted([*small, *big]) == list(range(S))


def test_dissect_after_warm_up_agrees_with_a_slow_version() -> None:
    method = ready(Dissect(warmup_epochs=2))
    history: dict[int, float] = {}
    for epoch in range(5):
        for step in range(N // S):
            ids, losses, similarity = scored(epoch, step)
            found = method.choose(epoch, step, ids, losses, similarity, B).tolist()
            now = [max(0.0, 100 * float(x)) for x in similarity]
            if epoch < 2:
                history.update(zip(ids.tolist(), now, strict=True))
                assert found == sorted(set(found))
                assert len(found) == B
                continue
            before = [history[i] for i in ids.tolist()]
            mean_before, mean_now = sum(before) / S, sum(now) / S
            gap = [(h - mean_before) - (c - mean_now) for h, c in zip(before, now, strict=True)]
            assert found == slowly_highest(gap, B)


def test_dissect_momentum_agrees_with_a_slow_version() -> None:
    method = ready(Dissect(variant="momentum"))
    history: dict[int, float] = {}
    for epoch in range(5):
        for step in range(N // S):
            ids, losses, similarity = scored(epoch, step)
            now = [max(0.0, 100 * float(x)) for x in similarity]
            gap = [history.get(i, 0.0) - c for i, c in zip(ids.tolist(), now, strict=True)]
            # equal scores meet only where c is 0, as 0 - 0
            assert method.choose(epoch, step, ids, losses, similarity, B).tolist() == slowly_highest(gap, B)
            for i, c in zip(ids.tolist(), now, strict=True):
                history[i] = 0.9 * history[i] + 0.1 * c if epoch else c
    np.testing.assert_allclose(method.history, [history[i] for i in range(N)], rtol=1e-5)


def test_dissect_warms_up_on_random_halves_that_depend_on_seed_and_step() -> None:
    ids, losses, similarity = scored(0, 0)
    drawn = {
        (seed, step): tuple(ready(Dissect(), seed).choose(0, step, ids, losses, similarity, B))
        for seed in (0, 1)
        for step in (0, 1)
    }
    assert len(set(drawn.values())) == 4
    counts = np.zeros(S)
    method = ready(Dissect())
    for step in range(400):
        counts[method.choose(0, step, ids, losses, similarity, B)] += 1
    assert np.abs(counts / 400 - 0.5).max() < 0.1  # four deviations


def test_a_pair_that_warm_up_never_held_is_neither_favoured_nor_pushed_back() -> None:
    method = ready(Dissect(warmup_epochs=1))
    ids, similarity = np.arange(4), np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)
    losses = np.zeros((4, 2), dtype=np.float32)
    method.history[:2] = [30, 0]  # the first has fallen by 20, the second risen by 20; the others are new
    assert method.choose(1, 0, ids, losses, similarity, 3).tolist() == [0, 2, 3]
    assert method.history[2:4].tolist() == pytest.approx([30, 40])


def test_a_warm_up_as_long_as_the_run_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ready(Dissect(warmup_epochs=6))
    assert "every batch is random" in caplog.text


def test_wrong_options_are_refused() -> None:
    for wrong in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="select_rate"):
            SmallLoss(select_rate=wrong)
    with pytest.raises(ValueError, match="variant"):
        Dissect(variant="warm")
    with pytest.raises(ValueError, match="warmup_epochs"):
        Dissect(warmup_epochs=0)


METHODS: dict[str, Any] = {
    "dissect": {"dissect": {"warmup_epochs": 1}},
    "momentum": {"dissect": {"variant": "momentum"}},
    "small_loss": "small_loss",
    "big_loss": {"big_loss": {"select_rate": 0.3}},
}


@pytest.mark.slow
@pytest.mark.parametrize("grid", [clip_grid, moco_grid])
@pytest.mark.parametrize("name", list(METHODS))
def test_a_planned_run_counts_what_it_trained_on_and_what_it_only_scored(
    planned: Plan, grid: Callable[..., dict[str, Any]], name: str
) -> None:
    (run,) = planned(grid(pruner=METHODS[name]))
    assert process.run(run.folder) == "done"
    record = read_record(run.folder / "record.json")
    training, batch = record["training"], record["config"]["train"]["batch_size"]
    read = round(batch / (0.3 if name == "big_loss" else 0.5))
    steps = record["pool_facts"]["num_samples"] // read * training["epochs"]
    assert training["optimizer_steps"] == steps
    assert training["samples_seen"] == steps * batch
    assert training["samples_scored"] == steps * read
    assert sum(row["kept"] for row in training["by_epoch"]) == steps * batch


def spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """From here on ``small_loss`` also observes; the calls it gets, with the ids it chose or observed."""
    calls: list[tuple[str, list[int]]] = []
    choose, plan = SmallLoss.choose, SmallLoss.plan

    def spy_choose(self: SmallLoss, *arguments: Any) -> np.ndarray:
        found = choose(self, *arguments)
        calls.append(("choose", arguments[2][found].tolist()))
        return found

    def spy_plan(self: SmallLoss, epoch: int) -> EpochPlan:
        return EpochPlan(plan(self, epoch).keep, observe=True, super_batch=self.super_batch)

    monkeypatch.setattr(SmallLoss, "choose", spy_choose)
    monkeypatch.setattr(SmallLoss, "plan", spy_plan)
    monkeypatch.setattr(SmallLoss, "state_dict", lambda self: {}, raising=False)
    monkeypatch.setattr(SmallLoss, "load_state_dict", lambda self, state: None, raising=False)
    monkeypatch.setattr(SmallLoss, "observe", lambda self, ids, losses: calls.append(("observe", ids.tolist())))
    return calls


@pytest.mark.parametrize("log_every", [1, 10])
def test_each_choice_is_trained_on_and_observed_before_the_next(
    planned: Plan, monkeypatch: pytest.MonkeyPatch, log_every: int
) -> None:
    calls = spied(monkeypatch)
    (run,) = planned(clip_grid(pruner="small_loss", train={"log_every": log_every}))
    process.run(run.folder)
    assert [kind for kind, _ in calls] == ["choose", "observe"] * 12
    assert all(chosen == observed for (_, chosen), (_, observed) in zip(calls[::2], calls[1::2], strict=True))


NO_TRACE = {
    "clip with patch dropout": clip_grid(
        model={
            "tiny": {**TINY_CLIP["tiny"], "vision_cfg": {**TINY_CLIP["tiny"]["vision_cfg"], "patch_dropout": 0.5}}
        },
        pruner="small_loss",
    ),
    "clip in micro-batches": clip_grid(pruner="small_loss", train={"accumulate": 2}),
    "clip resnet": clip_grid(
        model=SMALL_RESNET, pool={"shapes": {"num_samples": 64, "image_size": 32}}, pruner="small_loss"
    ),
    "moco": moco_grid(pruner="small_loss"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NO_TRACE))
def test_scoring_leaves_no_trace_in_what_is_trained(
    planned: Plan, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The same choices without a scoring pass give the same losses and weights, bit for bit."""
    monkeypatch.setattr(SmallLoss, "choose", lambda self, *arguments: np.arange(1, 2 * arguments[-1], 2))
    found = []
    for results in ("scored", "unscored"):
        if results == "unscored":
            for cls in (clip.Clip, moco.Moco):
                nothing = lambda self, tensors, *_: (torch.zeros(len(tensors[0]), 2), torch.zeros(len(tensors[0])))  # noqa: E731
                monkeypatch.setattr(cls, "scored", nothing)
        (run,) = planned(NO_TRACE[name], results=results)
        process.run(run.folder)
        lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
        weights = (run.folder / "checkpoint" / "final.safetensors").read_bytes()
        found.append(([line["loss"] for line in lines], weights))
    assert found[0] == found[1]


def batches() -> dict[str, tuple[Any, tuple[torch.Tensor, ...]]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (S, 32, 32, 3), dtype=torch.uint8, generator=generator)
    tokens = torch.randint(1, 1000, (S, 16), generator=generator)
    first, second = torch.randint(0, 256, (2, S, 32, 32, 3), dtype=torch.uint8, generator=generator)
    resnet = {"backbone": "resnet18", "image_size": 32, "hidden_dim": 32, "embed_dim": 16}
    return {
        "clip": (clip.make(Choice(name="small", options=SMALL_RESNET["small_resnet"]), 0), (images, tokens)),
        "moco": (moco.make(Choice(name="small", options=resnet), 0), (first, second)),
    }


@pytest.mark.parametrize("name", ["clip", "moco"])
def test_scores_are_the_losses_of_a_forward_and_batch_statistics_stay(name: str) -> None:
    objective, tensors = batches()[name]
    objective.train()
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    log_negative = torch.linspace(0, 1, S)
    losses, similarity = objective.scored(tensors, log_negative, nullcontext, S)
    for key, value in objective.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert objective.training
    assert not losses.requires_grad
    torch.testing.assert_close(losses, objective(tensors, log_negative=log_negative).detach(), rtol=0, atol=0)
    moved = [key for key, value in objective.state_dict().items() if not torch.equal(value, before[key])]
    assert any("running_mean" in key for key in moved), "a forward that trains takes its statistics in"
    assert losses.shape == (S, 2)
    assert similarity.shape == (S,)
    assert similarity.dtype == torch.float32
    assert (similarity.abs() <= 1 + 1e-6).all()


def test_similarity_is_the_cosine_of_a_pair_or_the_mean_of_two() -> None:
    objective, tensors = batches()["clip"]
    with torch.no_grad():
        images, texts, _ = objective(tensors, features_only=True)
        _, found = objective.scored(tensors, None, nullcontext, S)
    expected = [float(a @ b / a.norm() / b.norm()) for a, b in zip(images, texts, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    objective, pixels = batches()["moco"]
    view1, view2 = objective.views(pixels)
    with torch.no_grad():
        q1, q2 = (objective.predictor(objective.base(v)) for v in (view1, view2))
        k1, k2 = (objective.momentum_encoder(v) for v in (view1, view2))
        _, found = objective.scored(pixels, None, nullcontext, S)
    rows = zip(q1, q2, k1, k2, strict=True)
    expected = [float(a @ d / a.norm() / d.norm() + b @ c / b.norm() / c.norm()) / 2 for a, b, c, d in rows]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_scoring_in_pieces_sees_the_negatives_of_the_whole_super_batch() -> None:
    objective = clip.make(Choice(name="tiny", options=TINY_CLIP["tiny"]), 0)
    images = torch.randint(0, 256, (S, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(1, 1000, (S, 16), generator=torch.Generator().manual_seed(1))
    whole, parts = (objective.scored((images, tokens), None, nullcontext, size) for size in (S, 5))
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrong", [[0, 1], [2, 1, 0], [1, 1, 2], [-1, 0, 1], [0, 1, 4], [[0, 1, 2]]], ids=str)
def test_a_choice_of_anything_but_rising_positions_is_refused(
    monkeypatch: pytest.MonkeyPatch, wrong: list[Any]
) -> None:
    monkeypatch.setattr(SmallLoss, "choose", lambda *_: np.array(wrong))
    scores = super_batch.Scores(torch.arange(4), torch.zeros(4, 2), torch.zeros(4))
    with pytest.raises(ValueError, match=r"SmallLoss.choose must return 3 different positions below 4"):
        super_batch.choose(SmallLoss(), 0, 0, scores, 3)


def test_a_method_that_asks_for_super_batches_must_choose() -> None:
    with pytest.raises(NotImplementedError, match="Full plans super-batches"):
        ready(Full()).choose(0, 0, *scored(0, 0), B)


def test_ranks_that_cannot_share_a_super_batch_are_told_at_the_desk(planned: Plan) -> None:
    grid = clip_grid(pruner={"small_loss": {"select_rate": 0.75}}, launch={"ranks": 2})  # round(8 / 0.75) = 11
    with pytest.raises(ConfigError, match=r"grid\[0\].*train.batch_size 8 is chosen from 11 samples"):
        planned(grid)
    assert super_batch_size(8, 1 / 0.75, 1) == 11


def test_a_pool_smaller_than_a_super_batch_is_told_at_the_desk(planned: Plan) -> None:
    with pytest.raises(ConfigError, match=r"batch_size: 8, chosen from 80, is more than the pool's 64 samples"):
        planned(clip_grid(pruner={"small_loss": {"select_rate": 0.1}}))


def test_what_was_passed_over_counts_as_dropped_also_after_a_restart() -> None:
    flag = np.arange(8) < 4
    tracker = TruthTracker({"ill_matched": flag}, 8)
    tracker.pass_over(np.array([0, 1]))
    resumed = TruthTracker({"ill_matched": flag}, 8)
    resumed.load_state_dict(tracker.state_dict())
    resumed.pass_over(np.array([2, 6]))
    resumed.end_epoch(np.ones(8, dtype=bool))
    resumed.end_epoch(np.ones(8, dtype=bool))  # the next epoch starts with nothing passed over
    (row,) = resumed.rows({})
    assert (row["precision"], row["recall"]) == (3 / 4, 3 / 4)


def test_records_without_the_later_counts_are_still_valid(planned: Plan) -> None:
    (run,) = planned(clip_grid(train={"epochs": 1}))
    process.run(run.folder)
    record = read_record(run.folder / "record.json")
    assert (record["training"].pop("samples_scored"), record["training"].pop("optimizer_steps")) == (0, 8)
    validate(record, Path("older.json"))
