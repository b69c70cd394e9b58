"""The learning rate: a function of progress, the same as open_clip's on full data."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.config.run import TrainConfig
from benchmark.training.optim import learning_rate, peak_lr


def config(**changes: object) -> TrainConfig:
    return TrainConfig(**{"epochs": 8, "batch_size": 256, "lr": 1e-3, **changes})  # type: ignore[arg-type]


def curve(train: TrainConfig, steps_by_epoch: list[int], full: int) -> list[float]:
    return [
        learning_rate(train, epoch=epoch, step=step, steps=steps, full_steps=full)
        for epoch, steps in enumerate(steps_by_epoch)
        for step in range(steps)
    ]


def test_on_full_data_it_is_warm_up_and_half_a_cosine_over_steps() -> None:
    full, warmup, total = 10, 15, 80
    expected = [
        1e-3 * (step + 1) / warmup
        if step < warmup
        else 1e-3 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        for step in range(total)
    ]
    for clock in ("progress", "reference"):
        assert np.allclose(curve(config(warmup_steps=warmup, lr_clock=clock), [full] * 8, full), expected)


@given(st.lists(st.integers(1, 40), min_size=8, max_size=8))
def test_no_mask_makes_the_rate_rise_again(steps: list[int]) -> None:
    rates = curve(config(), steps, 40)
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(rates))
    assert rates[0] == pytest.approx(1e-3)


def test_the_reference_clock_jumps_when_epochs_get_longer_again() -> None:
    rates = curve(config(lr_clock="reference"), [40, 40, 40, 16, 40, 40, 40, 40], 40)
    last_of_short, first_of_long = rates[40 * 3 + 15], rates[40 * 3 + 16]
    assert rates[40 * 3] > rates[40 * 3 - 1]  # replayed from earlier in the schedule
    assert first_of_long < last_of_short


def test_rates_scale_with_the_batch_where_asked() -> None:
    assert peak_lr(config(lr=1.5e-4, batch_size=1024, lr_reference_batch=256)) == pytest.approx(6e-4)
    assert peak_lr(config()) == 1e-3
