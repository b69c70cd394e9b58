"""The learning rate: a function of progress, the same as open_clip's on full data."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines._candidates import mutation_share
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


def test_a_warm_up_from_zero_is_moco_v3s() -> None:
    """``adjust_learning_rate`` of moco-v3: peak x epoch / warm-up epochs, with fractional epochs."""
    rates = curve(config(warmup_epochs=2, warmup_from_zero=True), [10] * 8, 10)
    assert np.allclose(rates[:20], [1e-3 * (step / 10) / 2 for step in range(20)])
    assert rates[0] == 0
    assert rates[20:] == curve(config(warmup_epochs=2), [10] * 8, 10)[20:]


def published_curve(start: int) -> list[float]:
    """The rate at each epoch's last step over the peak, by the released scheduler's and loader's rules.

    open_clip's ``cosine_lr`` counts (batches of this epoch) x epoch + batch, of (batches of a full epoch) x
    epochs; batches are rounded up to a multiple of the 4 workers. From epoch ``start`` on 0, 1/4, 3/4 and all of
    60 % of the samples are left out in turn.
    """

    def batches(samples: int) -> int:
        return math.ceil(math.ceil(samples / 800) / 4) * 4

    everything, epochs, warmup = 10_108_501, 32, 10_000
    total, found = batches(everything) * epochs, []
    for epoch in range(epochs):
        left_out = 0.0 if epoch < start else (0, 0.25, 0.75, 1.0)[(epoch - start) % 4]
        count = batches(everything - int(left_out * int(0.6 * everything)))
        step = count * epoch + count - 1
        if step < warmup:
            found.append((step + 1) / warmup)
        else:
            found.append(0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))))
    return found


def arms_curve(start: int, clock: str = "reference") -> list[float]:
    everything, batch = 10_108_501, 800
    full = everything // batch
    train = config(epochs=32, batch_size=batch, warmup_steps=10_000, lr_clock=clock)
    found = []
    for epoch in range(32):
        share = 0.0 if epoch < start else mutation_share((epoch - start) % 4, 3)
        steps = (everything - int(share * int(0.6 * everything))) // batch
        found.append(learning_rate(train, epoch=epoch, step=steps - 1, steps=steps, full_steps=full) / 1e-3)
    return found


@pytest.mark.parametrize("start", [2, 3, 4, 5])
def test_the_reference_clock_is_the_released_scheduler(start: int) -> None:
    assert np.allclose(arms_curve(start), published_curve(start), atol=2e-3)


def test_the_page_of_scan_shows_the_released_schedulers_curve() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scan.md").read_text(encoding="utf-8")
    heading, *lines = re.findall(r"^\| (?:epoch|warm-up of|ours, for).*\|$", page, flags=re.MULTILINE)
    shown = [int(number) - 1 for number in re.findall(r"\d+", heading)]
    found = {}
    for line in lines:
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        found[name] = [float(cell) for cell in cells]
    expected = {f"warm-up of {start} epochs": published_curve(start) for start in (2, 3, 4, 5)}
    expected["ours, for all of them"] = arms_curve(2, "progress")
    for start in (3, 4, 5):
        assert np.allclose(arms_curve(start, "progress"), expected["ours, for all of them"], atol=1e-3)
    assert found == {name: [round(rates[epoch], 2) for epoch in shown] for name, rates in expected.items()}
    assert [found[f"warm-up of {start} epochs"][-1] for start in (2, 3, 4, 5)] == [0.06, 0.0, 0.68, 0.44]


def test_rates_scale_with_the_batch_where_asked() -> None:
    assert peak_lr(config(lr=1.5e-4, batch_size=1024, lr_reference_batch=256)) == pytest.approx(6e-4)
    assert peak_lr(config()) == 1e-3
