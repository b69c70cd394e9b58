"""What is left out is what a batch's losses put above chance, in either direction, and nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.worse_than_chance import WorseThanChance
from benchmark.pool import PoolView

N, BATCH, EPOCHS = 64, 16, 12
CHANCE = math.log(BATCH)


def start(factor: float = 1.0, **options: Any) -> WorseThanChance:
    """After a warm-up of two epochs of equal losses."""
    pruner = WorseThanChance(loss_factor=factor, **options)
    pruner.setup(PoolView(N, "f"), num_epochs=EPOCHS, seed=3)
    for epoch in range(2):
        feed(pruner, epoch, np.full((N, 2), 0.9 * factor * CHANCE, dtype=np.float32))
    return pruner


def feed(pruner: WorseThanChance, epoch: int, losses: np.ndarray) -> None:
    for first in range(0, N, BATCH):
        ids = np.arange(first, first + BATCH)
        pruner.observe(ids, losses[ids])
    pruner.end_epoch(epoch)


@given(st.integers(0, 99), st.sampled_from([1.0, 0.4]), st.floats(0, 0.9))
def test_all_and_only_what_is_above_chance_sits_out_until_the_next_preparation(
    seed: int, factor: float, share: float
) -> None:
    rng = np.random.default_rng(seed)
    losses = factor * CHANCE * rng.uniform(0.1, 0.99, (N, 2)).astype(np.float32)
    wrong = rng.random(N) < share
    losses[wrong, rng.integers(0, 2, np.count_nonzero(wrong))] = 1.01 * factor * CHANCE  # in one direction
    pruner = start(factor, cycle=3)
    assert pruner.plan(2).observe
    feed(pruner, 2, losses)
    for epoch in (3, 4, 5):
        assert np.array_equal(pruner.plan(epoch).keep, ~wrong)
        pruner.end_epoch(epoch)
    assert pruner.plan(6).keep.all()
    assert np.array_equal(pruner.candidates()["ill_matched"], wrong)


def test_its_control_leaves_out_as_many_others_each_epoch() -> None:
    losses = np.full((N, 2), 0.5 * CHANCE, dtype=np.float32)
    losses[:20] = 2 * CHANCE
    pruner = start(random=True)
    feed(pruner, 2, losses)
    masks = []
    for epoch in (3, 4):
        masks.append(pruner.plan(epoch).keep)
        pruner.end_epoch(epoch)
    assert [np.count_nonzero(~mask) for mask in masks] == [20, 20]
    assert not np.array_equal(*masks)
    assert not pruner.candidates()


def test_where_all_is_learned_nothing_sits_out() -> None:
    pruner = start()
    feed(pruner, 2, np.full((N, 2), 0.5 * CHANCE, dtype=np.float32))
    assert all(pruner.plan(epoch).keep.all() for epoch in range(3, EPOCHS))


def test_losses_of_another_factor_are_refused_at_the_first_batch() -> None:
    pruner = WorseThanChance()
    pruner.setup(PoolView(N, "f"), num_epochs=EPOCHS, seed=3)
    with pytest.raises(ValueError, match="is loss_factor 1 the objective's"):
        pruner.observe(np.arange(BATCH), np.full((BATCH, 2), 0.4 * CHANCE, dtype=np.float32))
    with pytest.raises(ValueError, match="loss_factor must be above 0"):
        WorseThanChance(loss_factor=0)
