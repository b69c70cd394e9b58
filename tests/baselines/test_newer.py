"""RS2, RePB, OrderDP and CCS against slow second versions, written from the rules, and what each promises."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import clip_grid, moco_grid

from baselines.ccs import Ccs
from baselines.order_dp import OrderDP
from baselines.repb import RePB
from baselines.rs2 import Rs2
from benchmark.coreset.coreset import Coreset, save_coreset
from benchmark.job import process
from benchmark.plan.plan import PlannedRun
from benchmark.pool.samples import PoolView
from benchmark.runs.record import read_record

N, B, EPOCHS = 60, 8, 7
Plan = Callable[..., list[PlannedRun]]


def ready(method: Any, num_samples: int = N, seed: int = 0, **features: np.ndarray) -> Any:
    method.setup(PoolView(num_samples, "test", features), num_epochs=EPOCHS, seed=seed)
    return method


def batches(epoch: int, keep: np.ndarray) -> list[list[int]]:
    """The whole batches of an epoch's kept samples; a last incomplete one is left out, as the loop does."""
    order = np.random.default_rng([epoch, 1]).permutation(len(keep))
    order = order[keep[order]]
    return order[: len(order) - len(order) % B].reshape(-1, B).tolist()  # type: ignore[no-any-return]


def losses_of(epoch: int, ids: list[int]) -> np.ndarray:
    losses: np.ndarray = np.random.default_rng([epoch, 2]).exponential(size=(N, 2)).astype(np.float32)[ids]
    return losses


# RS2


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.floats(0.05, 1.0), st.integers(0, 5))
def test_rs2_never_visits_a_sample_twice_more_than_another(total: int, share: float, seed: int) -> None:
    if round(share * total) == 0:
        return
    method, visits = ready(Rs2(share), total, seed), np.zeros(total, dtype=int)
    for epoch in range(12):
        keep = method.plan(epoch).keep
        assert keep.sum() == round(share * total)
        visits += keep
        assert visits.max() - visits.min() <= 1, "all samples are visited equally often, at any time"
        method.end_epoch(epoch)


def test_rs2_cuts_a_permutation_into_parts_and_then_draws_another() -> None:
    method, parts = ready(Rs2(0.25)), []
    for epoch in range(8):
        parts.append(tuple(np.flatnonzero(method.plan(epoch).keep).tolist()))
        method.end_epoch(epoch)
    assert sorted(sum(parts[:4], ())) == sorted(sum(parts[4:], ())) == list(range(N))
    assert set(parts[:4]).isdisjoint(parts[4:])


def test_rs2_takes_every_part_as_likely_as_any_other() -> None:
    """Of 5 samples, parts of 2: the second epoch and the third, which joins two permutations, hold any pair."""
    seen: tuple[Counter[Any], Counter[Any]] = (Counter(), Counter())
    for seed in range(1000):
        method = ready(Rs2(0.4), 5, seed)
        for epoch in range(3):
            if epoch:
                seen[epoch - 1][tuple(np.flatnonzero(method.plan(epoch).keep).tolist())] += 1
            method.end_epoch(epoch)
    for counts in seen:
        assert len(counts) == 10
        assert max(abs(count - 100) for count in counts.values()) < 5 * math.sqrt(100 * 0.9)


def test_rs2_with_replacement_draws_each_epoch_from_the_whole_pool() -> None:
    method, visits = ready(Rs2(0.25, replacement=True), 400), np.zeros(400, dtype=int)
    for epoch in range(8):
        keep = method.plan(epoch).keep
        assert keep.sum() == 100
        visits += keep
        method.end_epoch(epoch)
    # visits are binomial, 8 draws at 1/4: one sample in ten is never seen, and some four times or more
    assert 0.05 < (visits == 0).mean() < 0.16
    assert visits.max() >= 4


# RePB


@pytest.mark.parametrize(("rho", "window"), [(0.5, 1), (0.3, 3), (0.9, 100)])
def test_repb_agrees_with_a_slow_version_but_for_its_draws(rho: float, window: int) -> None:
    method = ready(RePB(rho, window))
    held_in: dict[int, int] = dict.fromkeys(range(N), 0)
    must_stay = set(range(N))
    drawn, chances = 0, 0
    for epoch in range(EPOCHS):
        plan = method.plan(epoch)
        held = set(np.flatnonzero(plan.keep).tolist())
        assert held >= must_stay
        if epoch == 0:
            assert held == set(range(N))
        else:
            drawn, chances = drawn + len(held - must_stay), chances + N - len(must_stay)
        for i in held:
            held_in[i] += 1
            assert plan.weight[i] == pytest.approx((epoch + 1) / held_in[i])
        below: set[int] = set()
        told: list[tuple[int, float]] = []
        for number, ids in enumerate(whole := batches(epoch, plan.keep)):
            losses = losses_of(epoch, ids)
            method.observe(np.array(ids), losses)
            told += [(i, (float(a) + float(b)) / 2) for i, (a, b) in zip(ids, losses, strict=True)]
            if (number + 1) % window == 0 or number + 1 == len(whole):
                mean = statistics.fmean(score for _, score in told)
                below |= {i for i, score in told if score < mean}
                told = []
        must_stay = held - below
        method.end_epoch(epoch)
    spread = math.sqrt(chances * rho * (1 - rho))
    assert abs(drawn - (1 - rho) * chances) < 4 * spread


def test_repb_weights_make_visits_count_alike() -> None:
    """Over the epochs so far each sample's weight adds up to what it has been due, one for each epoch."""
    method, due = ready(RePB(0.5)), 0.0
    rng = np.random.default_rng(0)
    for epoch in range(EPOCHS):
        plan = method.plan(epoch)
        due = epoch + 1
        assert (plan.weight[plan.keep] * method.times_held[plan.keep]).tolist() == pytest.approx(
            [due] * plan.keep.sum(), rel=1e-6
        )
        for ids in batches(epoch, plan.keep):
            method.observe(np.array(ids), rng.random((B, 2)).astype(np.float32))
        method.end_epoch(epoch)
    assert due == EPOCHS


def test_repb_prunes_about_its_nominal_share() -> None:
    method = ready(RePB(0.5), 4000)
    rng, kept = np.random.default_rng(0), []
    for epoch in range(20):
        keep = method.plan(epoch).keep
        kept.append(keep.mean())
        ids = rng.permutation(np.flatnonzero(keep))
        for part in ids[: len(ids) - len(ids) % 100].reshape(-1, 100):
            method.observe(part, rng.random((100, 2)).astype(np.float32))  # half lie below the mean
        method.end_epoch(epoch)
    # in balance: share held h = h (1 - rho / 2) + (1 - h) (1 - rho), so h = 2/3 at rho = 1/2
    assert np.mean(kept[5:]) == pytest.approx(2 / 3, abs=0.01)


# OrderDP


def slowly_chosen(score: dict[int, float], drawn: list[int], count: int) -> set[int]:
    return set(sorted(drawn, key=lambda i: -score[i])[:count])


def test_order_dp_agrees_with_a_slow_version(monkeypatch: pytest.MonkeyPatch) -> None:
    draws: list[list[int]] = []

    class Spy:
        def __init__(self, epoch: int) -> None:
            self.epoch = epoch

        def choice(self, total: int, size: int, replace: bool) -> np.ndarray:
            assert not replace
            draws.append(np.random.default_rng(self.epoch).permutation(total)[:size].tolist())
            return np.array(draws[-1])

    monkeypatch.setattr(OrderDP, "rng", lambda self, epoch: Spy(epoch))
    method = ready(OrderDP(explore=0.8, exploit=0.5))
    score = dict.fromkeys(range(N), math.inf)
    for epoch in range(EPOCHS):
        keep = method.plan(epoch).keep
        assert len(draws[-1]) == 48
        assert set(np.flatnonzero(keep).tolist()) == slowly_chosen(score, draws[-1], 24)
        for ids in batches(epoch, keep):
            losses = losses_of(epoch, ids)
            method.observe(np.array(ids), losses)
            score |= {
                i: float(np.float32((float(a) + float(b)) / 2)) for i, (a, b) in zip(ids, losses, strict=True)
            }
        method.end_epoch(epoch)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 50), st.sampled_from([0.5, 0.75, 1.0]), st.sampled_from([0.6, 0.85, 1.0]), st.data())
def test_order_dp_prunes_exactly_and_takes_the_top_of_what_it_drew(
    total: int, explore: float, exploit: float, data: st.DataObject
) -> None:
    loss = data.draw(st.lists(st.integers(0, 5), min_size=total, max_size=total))
    method = ready(OrderDP(explore, exploit), total)
    method.observe(np.arange(total), np.array([loss, loss], dtype=np.float32).T)
    method.end_epoch(0)
    keep = method.plan(1).keep
    count = max(1, math.floor(exploit * max(1, math.floor(explore * total + 1e-9)) + 1e-9))
    assert keep.sum() == count
    if explore == 1:  # then the whole pool is drawn, and none that is left out is higher
        assert sorted(np.array(loss)[keep].tolist()) == sorted(loss)[total - count :]


def test_order_dp_visits_by_the_rank_of_the_loss_as_order_statistics_say() -> None:
    """P(rank j of n is among the top q of s drawn), the hypergeometric sum of the paper, against many draws."""
    total, drawn, count = 10, 6, 3
    method = ready(OrderDP(explore=0.6, exploit=0.5), total)
    losses = np.repeat(np.arange(total, dtype=np.float32)[:, None], 2, axis=1)  # sample j has rank total - j
    method.observe(np.arange(total), losses)
    visits, rounds = np.zeros(total), 3000
    for epoch in range(rounds):
        method.end_epoch(epoch)
        visits += method.plan(epoch + 1).keep
    for sample in range(total):
        above = total - 1 - sample
        expected = sum(
            math.comb(above, k) * math.comb(sample, drawn - 1 - k) for k in range(count) if drawn - 1 - k >= 0
        ) / math.comb(total, drawn)
        assert visits[sample] / rounds == pytest.approx(expected, abs=4 * 0.5 / math.sqrt(rounds))


def test_order_dp_ranks_low_losses_as_dispensable_and_what_it_never_saw_last() -> None:
    method = ready(OrderDP(), 4)
    method.observe(np.array([2, 0, 1]), np.array([[1, 3], [5, 5], [0, 1]], dtype=np.float32))
    assert np.argsort(method.ranking([])).tolist() == [3, 0, 2, 1]
    assert np.isfinite(method.ranking([])).all()
    assert np.isfinite(ready(OrderDP(), 4).ranking([])).all()


# CCS


def slowly_kept(score: list[int], cut: int, count: int, bins: int) -> tuple[set[int], list[tuple[set[int], int]]]:
    """The paper's Algorithm 1 with sets and loops: what is cut off, and each bin with how many of it are kept."""
    order = sorted(range(len(score)), key=lambda i: (-score[i], i))
    rest = order[cut:]
    low, high = min(score[i] for i in rest), max(score[i] for i in rest)
    left: list[set[int]] = [set() for _ in range(bins)]
    for i in rest:
        k = 0
        while k < bins - 1 and high > low and (score[i] - low) * bins >= (k + 1) * (high - low):
            k += 1
        left[k].add(i)
    shares: list[tuple[set[int], int]] = []
    while left:
        smallest = min(left, key=len)
        shares.append((smallest, min(len(smallest), count // len(left))))
        count -= shares[-1][1]
        left.remove(smallest)
    assert count == 0
    return set(order[:cut]), shares


def stored(folder: Path, score: Any) -> str:
    """A coreset file with these scores, for a pool of as many samples."""
    values = np.asarray(score, dtype=np.float32)
    save_coreset(folder / "coreset.npz", Coreset(values < 1, "test", "scan", 0, "a run", values))
    return str(folder / "coreset.npz")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(-64, 64), min_size=4, max_size=60),
    st.sampled_from([0.1, 0.3, 0.5]),
    st.sampled_from([0.0, 0.2, 0.5]),
    st.sampled_from([1, 4, 16, 64]),  # powers of two: no bin's edge is rounded
)
def test_ccs_cuts_the_hardest_and_deals_the_budget_as_a_slow_version_does(
    score: list[int], share: float, cutoff: float, bins: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = stored(Path(folder), score)
        keep = ready(Ccs(share, cutoff, bins, files=[file]), len(score)).plan(0).keep
    kept, count = set(np.flatnonzero(keep).tolist()), round(share * len(score))
    assert len(kept) == count
    hardest, shares = slowly_kept(score, int(cutoff * len(score)), count, bins)
    assert not kept & hardest
    # bins of one size are dealt in another order perhaps: of a tie it is the numbers that count
    assert sorted((len(of_bin), len(kept & of_bin)) for of_bin, _ in shares) == sorted(
        (len(of_bin), number) for of_bin, number in shares
    )


def test_ccs_by_clip_score_cuts_the_pairs_that_agree_least() -> None:
    cosine = np.array([0.9, -0.5, 0.3, 0.8, 0.1, 0.7, 0.2, 0.6], dtype=np.float32)
    images = np.stack([cosine, np.sqrt(1 - cosine**2)], axis=1)
    texts = np.tile(np.array([[1, 0]], dtype=np.float32), (8, 1))
    method = ready(Ccs(0.75, 0.25), 8, image_embedding=images, text_embedding=texts)
    assert np.flatnonzero(~method.plan(0).keep).tolist() == [1, 4]


def test_ccs_draws_at_random_within_a_bin_and_keeps_small_bins_whole(tmp_path: Path) -> None:
    file = stored(tmp_path, [0] * 50 + [1] * 3)
    kept = [
        np.flatnonzero(ready(Ccs(20 / 53, cutoff=0.0, files=[file]), 53, seed).plan(0).keep).tolist()
        for seed in range(40)
    ]
    assert all(one[-3:] == [50, 51, 52] and len(one) == 20 for one in kept)
    assert len({i for one in kept for i in one}) == 53


def test_ccs_reads_which_end_of_a_stored_score_is_hard(tmp_path: Path) -> None:
    file = stored(tmp_path, range(10))
    for dispensable, gone in ((True, [8, 9]), (False, [0, 1])):
        method = ready(Ccs(0.8, 0.2, files=[file], hard_is_dispensable=dispensable), 10)
        assert np.flatnonzero(~method.plan(0).keep).tolist() == gone
        assert method.needs == ()
    save_coreset(Path(file), Coreset(np.arange(10) < 5, "test", "random_subset", 0, "a run"))
    with pytest.raises(ValueError, match="without scores"):
        ready(Ccs(0.8, files=[file]), 10).plan(0)


def test_ccs_takes_its_cutoff_from_the_budget() -> None:
    assert [Ccs(share).beta for share in (0.1, 0.2, 0.7, 0.9, 1.0)] == pytest.approx([0.3, 0.2, 0, 0, 0])
    assert Ccs(0.45).beta == pytest.approx(0.1)


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Rs2(0.0), "keep_fraction"),
    (lambda: RePB(rho=1.0), "rho"),
    (lambda: RePB(window_batches=0), "window_batches"),
    (lambda: OrderDP(explore=0), "explore"),
    (lambda: OrderDP(exploit=1.1), "exploit"),
    (lambda: Ccs(0.9, cutoff=0.2), "cutoff"),
    (lambda: Ccs(0.5, bins=0), "bins"),
    (lambda: Ccs(0.5, runs={"pruner": "scan"}, files=["x"]), "not both"),
    (lambda: Ccs(0.5, hard_is_dispensable=False), "hard_is_dispensable"),
]


@pytest.mark.parametrize(("make", "named"), WRONG)
def test_wrong_options_are_refused(make: Callable[[], Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


@pytest.mark.slow
@pytest.mark.parametrize("grid", [clip_grid, moco_grid])
@pytest.mark.parametrize("method", ["rs2", "repb", "order_dp"])
def test_a_planned_run_sees_what_the_method_plans(
    planned: Plan, grid: Callable[..., dict[str, Any]], method: str
) -> None:
    options = {"rs2": {"keep_fraction": 0.6}, "repb": {"rho": 0.9}, "order_dp": {"explore": 0.8, "exploit": 0.75}}
    (run,) = planned(grid(pruner={method: options[method]}, train={"epochs": 3}))
    assert process.run(run.folder) == "done"
    record = read_record(run.folder / "record.json")
    kept, total = [row["kept"] for row in record["training"]["by_epoch"]], record["pool_facts"]["num_samples"]
    assert record["family"] == "dynamic"
    if method == "repb":
        assert kept[0] == total
        assert max(kept[1:]) < total
    else:
        share = {"rs2": round(0.6 * total), "order_dp": int(0.75 * int(0.8 * total))}[method]
        assert kept == [share] * 3
    assert (run.folder / "coreset.npz").exists() == (method == "order_dp")


PREPARED = {"scan": {"warmup_threshold": 1.0}}
CCS_GRIDS = {
    "features": clip_grid(pruner=["full", {"ccs": {"keep_fraction": 0.5}}], features={"run": {"pruner": "full"}}),
    "scan": moco_grid(
        pruner=[PREPARED, {"ccs": {"keep_fraction": 0.5, "runs": {"pruner": PREPARED}}}], train={"epochs": 3}
    ),
    "losses": clip_grid(
        pruner=[
            "order_dp",
            {"ccs": {"keep_fraction": 0.5, "runs": {"pruner": "order_dp"}, "hard_is_dispensable": False}},
        ]
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CCS_GRIDS))
def test_ccs_runs_on_features_or_on_the_scores_of_another_run(planned: Plan, name: str) -> None:
    for run in planned(CCS_GRIDS[name]):
        assert process.run(run.folder) == "done"
    record = read_record(run.folder / "record.json")
    assert record["config"]["pruner"]["name"] == "ccs"
    assert record["family"] == "static"
    total = record["pool_facts"]["num_samples"]
    assert [row["kept"] for row in record["training"]["by_epoch"]] == [total // 2] * 3
