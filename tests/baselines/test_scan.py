"""SCAN by hand on a few samples, and its promises by property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines._candidates import mutation_share
from baselines.scan import Scan
from benchmark.pool.samples import PoolView


def ready(num_samples: int, num_ranks: int = 1, **options: float | int | str) -> Scan:
    scan = Scan(**options)  # type: ignore[arg-type]
    scan.setup(PoolView(num_samples, "test"), num_epochs=20, seed=0, num_ranks=num_ranks)
    return scan


def run_epoch(scan: Scan, epoch: int, losses: np.ndarray, batch_size: int) -> np.ndarray:
    """Give an epoch of the kept samples in id order; return the mask it trained on."""
    plan = scan.plan(epoch)
    ids = np.flatnonzero(plan.keep)
    if plan.observe:
        for i in range(0, len(ids) - len(ids) % batch_size, batch_size):
            part = ids[i : i + batch_size]
            scan.observe(part, losses[part].astype(np.float32))
    scan.end_epoch(epoch)
    return plan.keep


def after_warmup(
    num_samples: int, losses: np.ndarray, batch_size: int, num_ranks: int = 1, **options: float | int | str
) -> Scan:
    """Warm-up of epochs 0 and 1 with a loss that does not fall, so that epoch 2 is the preparation."""
    scan = ready(num_samples, num_ranks, **options)
    for epoch in (0, 1, 2):
        run_epoch(scan, epoch, losses, batch_size)
    return scan


def both(values: list[float]) -> np.ndarray:
    return np.stack([values, values], axis=1)


def test_candidates_of_eight_samples_by_hand() -> None:
    losses = both([0.8, 0.1, 0.5, 0.9, 0.2, 0.3, 0.7, 0.6])
    scan = after_warmup(8, losses, batch_size=8)  # floor(0.3 * 8) = 2 of each kind
    assert np.flatnonzero(scan.candidates()["redundant"]).tolist() == [1, 4]
    assert np.flatnonzero(scan.candidates()["ill_matched"]).tolist() == [0, 3]


def test_mutation_epochs_drop_0_25_75_and_100_percent_of_the_candidates() -> None:
    losses = both(np.linspace(0, 1, 80).tolist())
    scan = after_warmup(80, losses, batch_size=80)  # 48 candidates
    dropped = [80 - int(run_epoch(scan, epoch, losses, 80).sum()) for epoch in range(3, 11)]
    assert dropped == [12, 36, 48, 0, 12, 36, 48, 0]


def test_mean_share_of_a_cycle_is_one_half_for_every_length() -> None:
    for cycle in range(1, 12):
        assert np.isclose(np.mean([mutation_share(t, cycle) for t in range(cycle + 1)]), 0.5)


def test_warm_up_ends_after_the_epoch_whose_loss_falls_by_less_than_the_threshold() -> None:
    scan = ready(10)
    for epoch, mean in enumerate([5.0, 3.0, 2.0, 1.5]):  # falls by 40 %, 33 %, 25 %
        run_epoch(scan, epoch, np.full((10, 2), mean), 10)
        assert scan.start == (4 if epoch == 3 else None)


def test_no_epoch_before_the_third_can_prepare() -> None:
    scan = ready(10)
    run_epoch(scan, 0, np.ones((10, 2)), 10)
    assert scan.start is None
    run_epoch(scan, 1, np.ones((10, 2)), 10)
    assert scan.start == 2


def test_disagreeing_directions_are_topped_up_to_full_size_from_either() -> None:
    image = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    text = [0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.0]  # samples 0 and 9 swap ends
    losses = np.stack([image, text], axis=1)
    scan = after_warmup(10, losses, batch_size=10)
    redundant = set(np.flatnonzero(scan.candidates()["redundant"]).tolist())
    assert len(redundant) == 3
    assert {1, 2} < redundant <= {0, 1, 2, 9}


def test_enough_agreement_is_left_as_it_is() -> None:
    losses = np.stack([np.arange(40.0), np.arange(40.0)], axis=1)
    losses[0, 1] = 100.0  # one of 12 redundant candidates differs: 11/12 > 0.9
    scan = after_warmup(40, losses, batch_size=40)
    assert scan.candidates()["redundant"].sum() == 11


def on_two_ranks(disagreements: tuple[int, int]) -> np.ndarray:
    """Redundant candidates of 2 x 40 samples, a quarter of each rank's. Rank 1's losses are all above rank 0's.

    So many of each rank's ten change places with as many of the next ten in the text's direction.
    """
    losses = both(np.arange(80.0).tolist())
    for first, count in zip((0, 40), disagreements, strict=True):
        low, next_ones = np.arange(first, first + count), np.arange(first + 10, first + 10 + count)
        losses[np.concatenate([low, next_ones]), 1] = losses[np.concatenate([next_ones, low]), 1]
    options = {"redundant_share": 0.25, "ill_matched_share": 0.25, "rank_within": "rank"}
    return np.flatnonzero(after_warmup(80, losses, 80, num_ranks=2, **options).candidates()["redundant"])


def test_ranks_pick_from_their_own_parts_and_share_one_test_of_agreement() -> None:
    assert on_two_ranks((0, 0)).tolist() == [*range(10), *range(40, 50)]
    agreed = on_two_ranks(
        (0, 2)
    )  # rank 1 agrees on 8 of 10, both together on 18 of 20: enough, so nothing is added
    assert agreed.tolist() == [*range(10), *range(42, 50)]


def test_ranks_share_one_top_up_to_the_size_of_all_their_picks() -> None:
    found = set(on_two_ranks((1, 5)).tolist())  # 14 of 20 agree
    agreed = {*range(1, 10), *range(45, 50)}
    assert len(found) == 20
    assert agreed < found <= agreed | {0, 10, *range(40, 45), *range(50, 55)}


def test_a_share_that_rounds_to_nothing_marks_nothing() -> None:
    scan = after_warmup(3, both([0.1, 0.2, 0.3]), batch_size=3)  # floor(0.3 * 3) = 0
    assert not scan.candidates()["redundant"].any()
    assert not scan.candidates()["ill_matched"].any()
    ill_only = after_warmup(10, both(np.arange(10.0).tolist()), batch_size=10, redundant_share=0.0)
    assert not ill_only.candidates()["redundant"].any()
    assert ill_only.candidates()["ill_matched"].sum() == 3


@pytest.mark.parametrize(("mode", "dropped"), [("redundant", {0, 1, 2}), ("ill_matched", {7, 8, 9})])
def test_modes_drop_their_own_kind_alone(mode: str, dropped: set[int]) -> None:
    losses = both(np.arange(10.0).tolist())
    scan = after_warmup(10, losses, batch_size=10, mode=mode)
    for epoch in (3, 4):
        run_epoch(scan, epoch, losses, 10)
    assert set(np.flatnonzero(~scan.plan(5).keep).tolist()) == dropped
    assert set(scan.candidates()) == {mode}


def test_a_loss_that_is_not_a_number_makes_no_candidate() -> None:
    losses = both(np.arange(10.0).tolist())
    losses[4, 1] = np.nan
    scan = after_warmup(10, losses, batch_size=10)
    assert not (scan.candidates()["redundant"] | scan.candidates()["ill_matched"])[4]


def test_a_loss_that_is_not_a_number_does_not_hold_up_the_end_of_warm_up() -> None:
    losses = both(np.ones(10).tolist())
    losses[4] = np.nan
    assert after_warmup(10, losses, batch_size=10).start == 2


def test_a_preparation_marks_anew() -> None:
    rising = both(np.arange(10.0).tolist())
    scan = after_warmup(10, rising, batch_size=10)
    for epoch in range(3, 7):  # 6 is the next preparation
        run_epoch(scan, epoch, rising[::-1], 10)
    assert np.flatnonzero(scan.candidates()["redundant"]).tolist() == [7, 8, 9]
    assert np.flatnonzero(scan.candidates()["ill_matched"]).tolist() == [0, 1, 2]


def test_mutation_subsets_are_drawn_afresh_not_nested() -> None:
    losses = both(np.linspace(0, 1, 400).tolist())
    scan = after_warmup(400, losses, batch_size=400)
    first = ~run_epoch(scan, 3, losses, 400)
    second = ~run_epoch(scan, 4, losses, 400)
    assert (first & ~second).any()


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 64),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_selection_sizes_and_membership(batch: int, redundant: float, ill: float, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    losses = rng.integers(0, 3, (batch, 2)).astype(float) if ties else rng.random((batch, 2))
    scan = after_warmup(batch, losses, batch, redundant_share=redundant, ill_matched_share=ill)
    for kind, share in (("redundant", redundant), ("ill_matched", ill)):
        mask, count = scan.candidates()[kind], int(share * batch)
        assert mask.sum() <= count
        order = np.argsort(losses, axis=0, kind="stable")
        picked = order[:count] if kind == "redundant" else order[batch - count :]
        both_ways = set(picked[:, 0].tolist()) & set(picked[:, 1].tolist())
        chosen = set(np.flatnonzero(mask).tolist())
        assert both_ways <= chosen <= set(picked.ravel().tolist())
        assert len(chosen) == (count if len(both_ways) < 0.9 * count else len(both_ways))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"redundant_share": 1.5}, "redundant_share"),
        ({"redundant_share": 0.6, "ill_matched_share": 0.6}, "at most 1"),
        ({"cycle": 0}, "cycle"),
        ({"mode": "ill_match"}, "did you mean 'ill_matched'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"combine": "topup"}, "did you mean 'top_up'"),
        ({"rank_within": "ranks"}, "did you mean 'rank'"),
        ({"full_last_epochs": -1}, "full_last_epochs"),
        ({"redundant_below": 2.0, "ill_matched_above": 1.0}, "redundant_below must be at most"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, float | str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scan(**options)  # type: ignore[arg-type]
