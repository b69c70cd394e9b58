"""SeTa against the released code's steps, written out slowly; its state in a checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.seta import SeTa, split
from benchmark.pool.samples import PoolView

N, EPOCHS = 60, 16


def made(seed: int = 0, **options: Any) -> SeTa:
    method = SeTa(**options)
    method.setup(PoolView(N, "test"), num_epochs=EPOCHS, seed=seed)
    return method


def losses_of(epoch: int) -> np.ndarray:
    """float32 [N, 2]"""
    return np.random.default_rng(epoch).gamma(2.0, size=(N, 2)).astype(np.float32)


def run_epoch(method: SeTa, epoch: int, batches: slice = slice(None)) -> np.ndarray:
    plan = method.plan(epoch)
    for ids in np.array_split(np.flatnonzero(plan.keep), 5)[batches]:
        if plan.observe:
            method.observe(ids, losses_of(epoch)[ids])
    return plan.keep


def slow_parts(values: list[float], groups: int) -> list[list[float]]:
    """The groups of least squares, by trying every last group of every beginning."""
    values = sorted(values)

    def squares(part: list[float]) -> float:
        return float(np.var(part) * len(part))

    best = {end: (squares(values[:end]), [values[:end]]) for end in range(1, len(values) + 1)}
    for _ in range(1, min(groups, len(set(values)))):
        best = {
            end: min(
                (
                    (best[cut][0] + squares(values[cut:end]), [*best[cut][1], values[cut:end]])
                    for cut in best
                    if cut < end
                ),
                key=lambda found: found[0],
            )
            for end in best
            if any(cut < end for cut in best)
        }
    return best[len(values)][1]


@pytest.mark.parametrize("groups", [1, 2, 5, 10])
@pytest.mark.parametrize("seed", range(4))
def test_losses_are_parted_as_k_means_does(groups: int, seed: int) -> None:
    values = np.sort(np.random.default_rng(seed).gamma(2.0, size=60))
    parts = slow_parts(values.tolist(), groups)
    assert split(values, groups).tolist() == [part[0] for part in parts[1:]]


def test_groups_far_apart_are_found() -> None:
    rng = np.random.default_rng(0)
    values = np.sort(np.concatenate([rng.normal(c, 0.05, 40 * (c + 1)) for c in range(5)]))
    assert split(values, 5).tolist() == pytest.approx([values[(values > c + 0.5)][0] for c in range(4)])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_no_group_is_empty_and_equal_losses_stay_together(values: list[int], groups: int) -> None:
    array = np.sort(np.array(values, dtype=np.float64))
    bounds = split(array, groups)
    sizes = np.bincount(np.searchsorted(bounds, array, side="right"), minlength=len(bounds) + 1)
    assert len(bounds) == min(groups, len(set(values))) - 1
    assert (sizes > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.0, 0.1])
@pytest.mark.parametrize(("groups", "window"), [(5, 0.6), (3, 0.9), (4, 0.5), (1, 1.0)])
def test_the_window_slides_from_easy_to_hard_and_opens_at_the_end(
    ratio: float, groups: int, window: float
) -> None:
    method = made(prune_ratio=ratio, groups=groups, window=window)
    latest: dict[int, float] = {}
    size = int((1 - ratio) * N)
    for epoch in range(EPOCHS):
        keep = run_epoch(method, epoch)
        drawn = method._drawn(epoch)
        assert drawn.sum() == size
        assert not (keep & ~drawn).any()
        if epoch == 0 or epoch + 1 > 0.875 * EPOCHS:
            assert np.array_equal(keep, drawn)
        else:
            ids = [i for i in np.flatnonzero(drawn).tolist() if i in latest]
            parts = slow_parts([latest[i] for i in ids], groups)
            width = round(len(parts) * window)
            start = epoch % (len(parts) - width + 1)
            inside = {value for part in parts[start : start + width] for value in part}
            expected = [i for i in np.flatnonzero(drawn).tolist() if i not in latest or latest[i] in inside]
            assert np.flatnonzero(keep).tolist() == expected
        for i in np.flatnonzero(keep).tolist():
            if method.plan(epoch).observe:
                latest[i] = float(losses_of(epoch)[i].mean())
        method.end_epoch(epoch)
    assert not method.plan(EPOCHS - 1).observe


@pytest.mark.parametrize("cut", [0, 1, 7, 13, 14, 15])
def test_a_restart_in_mid_epoch_changes_nothing(cut: int) -> None:
    whole, other = made(prune_ratio=0.1), made(prune_ratio=0.1)
    for epoch in range(cut):
        run_epoch(whole, epoch)
        whole.end_epoch(epoch)
        run_epoch(other, epoch)
        other.end_epoch(epoch)
    run_epoch(other, cut, slice(0, 2))
    state = {name: np.array(value) for name, value in other.state_dict().items()}
    resumed = made(prune_ratio=0.1)
    resumed.load_state_dict(state)
    for epoch in range(cut, EPOCHS):
        one, two = run_epoch(whole, epoch), run_epoch(resumed, epoch, slice(2 if epoch == cut else 0, None))
        assert np.array_equal(one, two)
        whole.end_epoch(epoch)
        resumed.end_epoch(epoch)
        assert all(
            np.array_equal(a, resumed.state_dict()[n], equal_nan=n == "loss")
            for n, a in whole.state_dict().items()
        )


def test_a_sample_without_a_loss_stays_in() -> None:
    method = made(groups=5, window=0.2)
    ids = np.arange(30)
    method.observe(ids, losses_of(0)[ids])
    method.observe(np.array([3, 40]), np.full((2, 2), np.nan, dtype=np.float32))  # says nothing
    method.end_epoch(0)
    keep = method.plan(1).keep
    assert keep[30:].all()
    assert 0 < keep[:30].sum() < 30


def test_equal_losses_and_no_losses_leave_all() -> None:
    method = made()
    method.end_epoch(0)
    assert method.plan(1).keep.all()
    method.observe(np.arange(N), np.ones((N, 2), dtype=np.float32))
    method.end_epoch(1)
    assert method.plan(2).keep.all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_tiny_pool_is_never_empty(n: int) -> None:
    method = SeTa(prune_ratio=0.9)
    method.setup(PoolView(n, "test"), num_epochs=4, seed=0)
    for epoch in range(4):
        keep = method.plan(epoch).keep
        assert keep.any()
        method.observe(np.flatnonzero(keep), np.ones((int(keep.sum()), 2), dtype=np.float32))
        method.end_epoch(epoch)


@pytest.mark.parametrize(
    "options",
    [{"prune_ratio": 1.0}, {"groups": 0}, {"window": 0.0}, {"window": 1.2}, {"window": 0.05}, {"delta": 1.1}],
)
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        SeTa(**options)
