"""InfoBatch against a slow second version, and its promises: unbiased weights, full last epochs, its share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import clip_grid, moco_grid

from baselines.infobatch import Infobatch
from benchmark.job import process
from benchmark.plan.plan import PlannedRun
from benchmark.pool.samples import PoolView
from benchmark.runs.record import read_record

N, B, EPOCHS = 64, 8, 16


def ready(num_samples: int = N, num_epochs: int = EPOCHS, seed: int = 0, **options: Any) -> Infobatch:
    method = Infobatch(**options)
    method.setup(PoolView(num_samples, "test"), num_epochs=num_epochs, seed=seed)
    return method


def losses_of(epoch: int, ids: np.ndarray) -> np.ndarray:
    return np.random.default_rng(epoch).exponential(size=(N, 2)).astype(np.float32)[ids]


def after_one_epoch(score: np.ndarray, seed: int = 0, **options: Any) -> Infobatch:
    """A method that has seen each sample once, with this loss in both directions."""
    method = ready(len(score), seed=seed, **options)
    ids = np.arange(len(score))
    method.observe(ids, np.stack([score, score], axis=1).astype(np.float32))
    method.end_epoch(0)
    return method


@pytest.mark.parametrize("centred", [False, True])
def test_epochs_agree_with_a_slow_version(centred: bool) -> None:
    method = ready(subtract_batch_mean=centred)
    score = dict.fromkeys(range(N), 3.0)
    for epoch in range(EPOCHS):
        plan = method.plan(epoch)
        mean = statistics.fmean(score.values())
        below = {i for i in score if score[i] < mean} if epoch + 1 <= 0.875 * EPOCHS else set()
        kept = set(np.flatnonzero(plan.keep).tolist())
        assert kept >= set(range(N)) - below
        assert len(kept & below) == math.floor(0.5 * len(below))
        weight = np.ones(N) if plan.weight is None else plan.weight
        assert [weight[i] for i in sorted(kept)] == [2.0 if i in below else 1.0 for i in sorted(kept)]
        order = np.random.default_rng(100 + epoch).permutation(N)
        order = order[plan.keep[order]]
        for ids in order[: len(order) - len(order) % B].reshape(-1, B):
            losses = losses_of(epoch, ids)
            if plan.observe:
                method.observe(ids, losses)
                of_batch = [(float(a) + float(b)) / 2 for a, b in losses]
                shift = statistics.fmean(of_batch) if centred else 0.0
                score.update((int(i), float(np.float32(x - shift))) for i, x in zip(ids, of_batch, strict=True))
        method.end_epoch(epoch)


@pytest.mark.parametrize("num_epochs", [1, 7, 8, 16, 200])
def test_the_last_epochs_are_full_and_of_weight_one(num_epochs: int) -> None:
    method = ready(num_epochs=num_epochs)
    method.observe(np.arange(N), np.arange(2 * N, dtype=np.float32).reshape(N, 2))
    method.end_epoch(0)
    pruned = [epoch for epoch in range(num_epochs) if not method.plan(epoch).keep.all()]
    assert pruned == list(range(math.floor(0.875 * num_epochs)))
    for epoch in range(len(pruned), num_epochs):
        assert method.plan(epoch).weight is None
        assert method.plan(epoch).log_negative is None


def test_the_first_epoch_drops_nothing() -> None:
    plan = ready().plan(0)
    assert plan.keep.all()
    assert plan.weight is None or (plan.weight == 1).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 100, width=32), min_size=4, max_size=40), st.sampled_from([0.25, 0.5, 0.75]))
def test_weights_make_up_for_what_sits_out(score: list[float], prune_ratio: float) -> None:
    method = after_one_epoch(np.array(score), prune_ratio=prune_ratio)
    below = int(method.is_below.sum())
    plan = method.plan(1)
    assert plan.weight is not None
    total = float((plan.weight * plan.keep)[method.is_below].sum())
    assert total == pytest.approx(
        math.floor((1 - prune_ratio) * below) / (1 - prune_ratio)
    )  # below, but for rounding
    assert below - total < 1 / (1 - prune_ratio)
    assert (plan.weight * plan.keep)[~method.is_below].sum() == len(score) - below


def test_the_weighted_sum_of_losses_is_unbiased_over_draws() -> None:
    rng = np.random.default_rng(0)
    score = np.concatenate([rng.uniform(0, 1, 40), rng.uniform(5, 9, 20)])
    present = rng.exponential(size=60)  # losses now are not the scores that were chosen by
    visits, sums = np.zeros(60), []
    method = after_one_epoch(score)
    draws = 4000
    for seed in range(draws):
        method.seed = seed
        plan = method.plan(1)
        assert plan.weight is not None
        visits += plan.weight * plan.keep
        sums.append(float((plan.weight * plan.keep * present).sum()))
    error = statistics.stdev(sums) / math.sqrt(draws)
    assert abs(statistics.fmean(sums) - present.sum()) < 4 * error
    assert np.abs(visits / draws - 1).max() < 5 / math.sqrt(draws)  # a visit's weight is 0 or 2: deviation 1


def test_weighed_negatives_estimate_the_denominator_of_the_full_data() -> None:
    rng = np.random.default_rng(0)
    score = np.concatenate([rng.uniform(0, 1, 40), rng.uniform(5, 9, 20)])
    method = after_one_epoch(score, correct_negatives=True)
    exponentials = np.exp(rng.normal(size=60))
    estimates, uncorrected = [], []
    for seed in range(2000):
        method.seed = seed
        plan = method.plan(1)
        assert plan.log_negative is not None
        estimates.append(float((np.exp(plan.log_negative) * exponentials)[plan.keep].sum()))
        uncorrected.append(float(exponentials[plan.keep].sum()))
    error = statistics.stdev(estimates) / math.sqrt(len(estimates))
    assert abs(statistics.fmean(estimates) - exponentials.sum()) < 4 * error
    assert exponentials.sum() - statistics.fmean(uncorrected) > 100 * error


def test_negatives_weigh_only_where_asked() -> None:
    score = np.arange(8.0)
    assert after_one_epoch(score).plan(1).log_negative is None
    plan = after_one_epoch(score, correct_negatives=True).plan(1)
    assert plan.weight is not None
    np.testing.assert_array_equal(plan.log_negative, np.log(plan.weight))


def test_over_a_run_it_saves_r_times_the_share_below_the_mean_times_delta() -> None:
    score = np.concatenate([np.zeros(60), np.ones(40)])  # 60 % below the mean, at every visit
    method = after_one_epoch(score)
    method.num_epochs = 200
    saved = [1 - method.plan(epoch).keep.mean() for epoch in range(200)]
    assert statistics.fmean(saved) == pytest.approx(0.5 * 0.6 * 0.875)


def test_ids_above_two_to_the_24_keep_their_own_score() -> None:
    first = (1 << 24) - 1
    method = ready(num_samples=first + 4)
    ids = np.arange(first, first + 4)  # float32 holds two of them
    method.observe(ids, np.repeat(np.arange(4, dtype=np.float32)[:, None], 2, axis=1))
    assert method.scores[first:].tolist() == [0, 1, 2, 3]
    assert (method.scores[:first] == 3).all()


def test_a_loss_that_is_not_a_number_leaves_the_score_as_it_was() -> None:
    method = ready(num_samples=4, subtract_batch_mean=True)
    losses = np.array([[1, 1], [np.nan, 1], [2, 4], [np.inf, 0]], dtype=np.float32)
    method.observe(np.arange(4), losses)
    assert method.scores.tolist() == [-1, 3, 1, 3]


@pytest.mark.parametrize("wrong", [{"prune_ratio": 1.0}, {"prune_ratio": -0.1}, {"delta": 1.5}])
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Infobatch(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"correct_negatives": True, "subtract_batch_mean": True}])
@pytest.mark.parametrize("grid", [clip_grid, moco_grid])
def test_a_planned_run_prunes_and_ends_on_full_data(
    planned: Callable[..., list[PlannedRun]], grid: Callable[..., dict[str, Any]], options: dict[str, Any]
) -> None:
    (run,) = planned(grid(pruner={"infobatch": options}, train={"epochs": 4}))
    assert process.run(run.folder) == "done"
    record = read_record(run.folder / "record.json")
    kept, total = [row["kept"] for row in record["training"]["by_epoch"]], record["pool_facts"]["num_samples"]
    assert kept[0] == kept[3] == total
    assert total / 2 <= min(kept[1:3]) < total
    assert record["training"]["samples_scored"] == 0
    assert record["training"]["optimizer_steps"] == sum(k // record["config"]["train"]["batch_size"] for k in kept)
