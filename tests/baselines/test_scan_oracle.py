"""SCAN against a slow second version in Python's sets and lists, written from the paper's description.

For ranks it is written from the released MoCo code's rule: each picks from its own part, then all picks are one
pair of sets.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines import _candidates
from baselines.scan import Scan
from baselines.scan_random import ScanRandom
from benchmark.pool.samples import PoolView

N = 64
RANKS = 2


@dataclass
class Expected:
    """What a batch may give for one kind."""

    certain: set[int]
    """Ids marked whatever is drawn."""
    possible: set[int]
    """Ids that a draw can add, and the certain ones."""
    size: int
    """Positions of the batch that are marked: the number of ids, where no id comes twice."""


def direction(losses: list[float], share: Fraction, kind: str, limit: float | None) -> set[int]:
    """Positions that one direction gives."""
    if limit is not None:
        return {i for i, loss in enumerate(losses) if (loss < limit if kind == "redundant" else loss > limit)}
    rising = sorted(range(len(losses)), key=lambda i: (losses[i], i))
    count = math.floor(share * len(losses))
    return set(rising[:count]) if kind == "redundant" else set(rising[::-1][:count])


def expected(
    ids: list[int],
    losses: list[list[float]],
    kind: str,
    share: Fraction,
    limit: float | None,
    combine: str,
    ranks: int = 1,
) -> Expected:
    """``ranks`` of them hold equal parts of the batch, one after the other, and pick each from its own."""
    image, text = set[int](), set[int]()  # positions of the batch, of all ranks
    held = len(ids) // ranks
    for rank in range(ranks):
        own = [i for i in range(rank * held, (rank + 1) * held) if all(math.isfinite(x) for x in losses[i])]
        for gathered, d in ((image, 0), (text, 1)):
            gathered.update(own[i] for i in direction([losses[i][d] for i in own], share, kind, limit))
    agreed, either = image & text, image | text
    added = 0
    if combine == "union":
        agreed = either
    elif combine == "top_up" and 10 * len(agreed) < 9 * len(image):
        added = len(image) - len(agreed)
    possible = either if added else agreed
    return Expected({ids[i] for i in agreed}, {ids[i] for i in possible}, len(agreed) + added)


def preparing(cls: type[Scan] = Scan, *, num_samples: int = N, num_epochs: int = 40, **options: Any) -> Scan:
    """A method whose next epoch, the third, is a preparation."""
    scan = cls(**options)
    scan.setup(PoolView(num_samples, "test"), num_epochs=num_epochs, seed=0, num_ranks=RANKS)
    for epoch in (0, 1):
        scan.observe(np.zeros(1, dtype=np.int64), np.ones((1, 2), dtype=np.float32))
        scan.end_epoch(epoch)
    return scan


def random_batch(rng: np.random.Generator, size: int, repeated: bool) -> tuple[np.ndarray, np.ndarray]:
    """Directions that agree little or much, often with ties, sometimes with losses that are not finite."""
    ids = rng.integers(0, 8, size) if repeated else rng.choice(N, size=size, replace=False)
    weight = rng.random()
    losses = weight * rng.random((size, 1)) + (1 - weight) * rng.random((size, 2))
    if rng.random() < 0.5:
        losses = np.round(losses * 3) / 3
    if rng.random() < 0.2:
        losses = (losses - 0.5) * rng.choice([1, -0.0])  # negative ones, and zeros of both signs
    if rng.random() < 0.3:
        losses[rng.random((size, 2)) < 0.2] = rng.choice([np.nan, np.inf, -np.inf])
    return ids.astype(np.int64), losses.astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("combine", ["top_up", "intersection", "union"])
@pytest.mark.parametrize("rank_within", ["global", "rank"])
@pytest.mark.parametrize("by", ["share", "limit"])
def test_random_epochs_agree_with_the_oracle(combine: str, rank_within: str, by: str) -> None:
    rng = np.random.default_rng(7)
    for case in range(1500):
        shares = [Fraction(int(part), 16) for part in rng.multinomial(16, [1 / 3] * 3)[:2]]  # exact in binary
        limits = [0.375, 0.75] if by == "limit" else [None, None]
        scan = preparing(
            redundant_share=float(shares[0]),
            ill_matched_share=float(shares[1]),
            redundant_below=limits[0],
            ill_matched_above=limits[1],
            combine=combine,
            rank_within=rank_within,
        )
        repeated = case % 4 == 0
        wanted: dict[str, list[Expected]] = {"redundant": [], "ill_matched": []}
        for _ in range(1 if case % 3 else 2):  # sizes from one batch, unions from two
            ids, losses = random_batch(rng, RANKS * int(rng.integers(1, 17)), repeated)
            scan.observe(ids, losses)
            ranks = RANKS if rank_within == "rank" else 1
            for (kind, found), share, limit in zip(wanted.items(), shares, limits, strict=True):
                found.append(expected(ids.tolist(), losses.tolist(), kind, share, limit, combine, ranks))
        scan.end_epoch(2)
        for kind, found in wanted.items():
            marked = set(np.flatnonzero(scan.candidates()[kind]).tolist())
            certain = set().union(*(e.certain for e in found))
            possible = set().union(*(e.possible for e in found))
            assert certain <= marked <= possible
            size = sum(e.size for e in found)
            assert len(marked) <= size
            if case % 3 and not repeated:
                assert len(marked) == size


@pytest.mark.slow
def test_tiny_batches_agree_with_the_oracle_for_every_order_of_losses() -> None:
    for size in (1, 2, 3):
        for number in range(4 ** (2 * size)):
            losses = [[number // 4 ** (2 * i + d) % 4 / 4 for d in (0, 1)] for i in range(size)]
            scan = preparing(num_samples=size)
            scan.observe(np.arange(size), np.array(losses, dtype=np.float32))
            scan.end_epoch(2)
            for kind in ("redundant", "ill_matched"):
                found = expected(list(range(size)), losses, kind, Fraction(3, 10), None, "top_up")
                assert scan.candidates()[kind].sum() == found.size == 0  # floor(0.3 * 3) = 0


def planned_cycles(scan: Scan, num_epochs: int, batch_size: int = 50) -> list[np.ndarray]:
    """Masks of the epochs from the first preparation on, all samples observed where asked for."""
    rng = np.random.default_rng(3)
    losses = rng.random((scan.pool.num_samples, 1)) + 0.3 * rng.random((scan.pool.num_samples, 2))
    found = []
    for epoch in range(2, 2 + num_epochs):
        plan = scan.plan(epoch)
        if plan.observe:
            for ids in rng.permutation(len(losses)).reshape(-1, batch_size):
                scan.observe(ids, losses[ids].astype(np.float32))
        scan.end_epoch(epoch)
        found.append(plan.keep)
    return found


@pytest.mark.parametrize("cls", [Scan, ScanRandom])
@pytest.mark.parametrize("schedule", ["cosine", "fixed"])
@pytest.mark.parametrize("cycle", [1, 2, 3, 5, 8])
def test_a_cycle_prunes_half_the_candidates_on_average(cls: type[Scan], schedule: str, cycle: int) -> None:
    scan = preparing(cls, num_samples=1000, cycle=cycle, schedule=schedule)
    dropped = [int((~keep).sum()) for keep in planned_cycles(scan, cycle + 1)]
    total = int((scan.marks_now & 0b1100_0000 > 0).sum())
    assert dropped[0] == 0
    if (cycle, schedule) == (3, "cosine"):
        assert dropped == [0, total // 4, 3 * total // 4, total]
    if schedule == "fixed":
        assert len(set(dropped[1:])) == 1
    assert 0 <= 0.5 * total - np.mean(dropped) < 1  # each mutation epoch rounds down


@pytest.mark.parametrize("cls", [Scan, ScanRandom])
def test_rates_above_half_are_reached_by_dropping_all_candidates_in_long_cycles(cls: type[Scan]) -> None:
    cycle = 15
    scan = preparing(
        cls, num_samples=1000, cycle=cycle, schedule="all", redundant_share=0.48, ill_matched_share=0.48
    )
    dropped = [int((~keep).sum()) for keep in planned_cycles(scan, cycle + 1)]
    total = int((scan.marks_now & 0b1100_0000 > 0).sum())
    assert dropped == [0, *[total] * cycle]
    assert np.mean(dropped) / 1000 > 0.85  # some samples are candidates of both kinds, so less than 0.96 * 15 / 16


@pytest.mark.parametrize(("cls", "nested"), [(Scan, True), (ScanRandom, False)])
def test_scan_drops_candidates_and_its_control_anything(cls: type[Scan], nested: bool) -> None:
    scan = preparing(cls, num_samples=1000)
    masks = planned_cycles(scan, 4)
    candidates = scan.marks_now & 0b1100_0000 > 0
    assert all((~keep <= candidates).all() for keep in masks) == nested
    if not nested:
        assert abs((~masks[2] & candidates).sum() / (~masks[2]).sum() - candidates.mean()) < 0.06


def test_the_control_drops_as_many_as_scan_in_every_epoch() -> None:
    counts = [
        [int(k.sum()) for k in planned_cycles(preparing(cls, num_samples=1000), 9)] for cls in (Scan, ScanRandom)
    ]
    assert counts[0] == counts[1]


def test_full_last_epochs_train_on_everything() -> None:
    scan = preparing(num_samples=1000, num_epochs=10, full_last_epochs=2)
    assert [bool(keep.all()) for keep in planned_cycles(scan, 8)] == [
        True,
        False,
        False,
        False,
        True,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("mode", ["redundant", "ill_matched"])
def test_one_kind_with_a_doubled_share_prunes_what_both_do(mode: str) -> None:
    one = planned_cycles(preparing(num_samples=1000, mode=mode, **{f"{mode}_share": 0.6}), 4)
    two = planned_cycles(preparing(num_samples=1000), 4)
    assert abs(np.mean(one) - np.mean(two)) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 7, 20, 1000])
def test_a_draw_in_chunks_has_its_size_and_prefers_no_sample(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_candidates, "CHUNK", chunk)
    mask = np.arange(40) % 3 != 0  # 26 samples
    rng = np.random.default_rng(0)
    times = np.zeros(40)
    for _ in range(3000):
        dropped = ~_candidates.all_but(10, mask, rng)
        assert dropped.sum() == 10
        assert (dropped <= mask).all()
        times += dropped
    assert np.abs(times[mask] / 3000 - 10 / 26).max() < 0.04  # 4.5 deviations


def test_drawing_all_or_none_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_candidates, "CHUNK", 4)
    mask = np.arange(10) < 6
    assert np.array_equal(_candidates.all_but(6, mask, np.random.default_rng(0)), ~mask)
    assert _candidates.all_but(0, mask, np.random.default_rng(0)).all()
    assert _candidates.all_but(0, np.zeros(10, dtype=bool), np.random.default_rng(0)).all()


def test_state_is_a_byte_and_a_checkpoint_two_bits_a_sample_outside_preparation() -> None:
    scan = preparing(num_samples=8000)
    planned_cycles(scan, 2)
    assert scan.marks_now.nbytes == 8000
    assert sum(v.nbytes for v in scan.state_dict().values() if isinstance(v, np.ndarray)) == 2 * 1000


def test_a_ranking_counts_cycles_first_and_goes_on_with_the_middle_of_the_losses() -> None:
    """Over cycles with the same losses it is the order in which growing shares would mark the samples."""
    n = 800
    ids, losses = np.arange(n), np.random.default_rng(0).permutation(n).astype(np.float32)
    history = []
    for share in (0.3, 0.1):
        scan = preparing(num_samples=n, redundant_share=share, ill_matched_share=share)
        scan.observe(ids, np.stack([losses, losses], axis=1))
        epoch = scan.epoch
        scan.end_epoch(epoch)
        marks = scan.marks(epoch)
        assert marks is not None
        assert scan.marks(epoch + 1) is None
        history.append(marks.copy())
    score = scan.ranking(history)
    assert score is not None
    middle = np.abs(2 * losses / (n - 1) - 1)
    times = sum(((losses < share * n) | (losses >= n - share * n)).astype(int) for share in (0.3, 0.1))
    assert np.array_equal(np.floor(score), times)
    by_loss = np.argsort(losses)
    low, high = by_loss[: n // 2][::-1], by_loss[n // 2 :]
    assert (np.diff(score[low]) >= 0).all()
    assert (np.diff(score[high]) >= 0).all()
    assert np.allclose(score - np.floor(score), middle, atol=2 / 62)
    assert scan.ranking([]) is None


@pytest.mark.parametrize(("mode", "kept"), [("redundant", "high"), ("ill_matched", "low")])
def test_a_ranking_by_one_kind_goes_by_its_end_of_the_losses(mode: str, kept: str) -> None:
    scan = preparing(num_samples=100, mode=mode)
    losses = np.arange(100, dtype=np.float32)
    scan.observe(np.arange(100), np.stack([losses, losses], axis=1))
    epoch = scan.epoch
    scan.end_epoch(epoch)
    marks = scan.marks(epoch)
    assert marks is not None
    score = scan.ranking([marks])
    assert score is not None
    rising = np.diff(score)
    assert (rising <= 0).all() if kept == "high" else (rising >= 0).all()


def test_the_tests_that_the_comparison_names_exist() -> None:
    tests = Path(__file__).parents[1]
    named = set(re.findall(r"`(test_\w+)`", (tests.parent / "docs" / "scan.md").read_text(encoding="utf-8")))
    found = {
        name
        for path in tests.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    assert named
    assert named <= found


@pytest.mark.parametrize("rank_within", ["global", "rank"])
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_restart_with_other_options_changes_nothing(rank_within: str, cut: int) -> None:
    options: dict[str, Any] = {"rank_within": rank_within, "schedule": "fixed", "ill_matched_above": 0.7}
    rng = np.random.default_rng(5)
    batches = [random_batch(rng, 16, repeated=False) for _ in range(4)]
    whole, before, after = (preparing(**options) for _ in range(3))
    for i, batch in enumerate(batches):
        whole.observe(*batch)
        if i == cut:
            after.load_state_dict(before.state_dict())
        (before if i < cut else after).observe(*batch)
    for scan in (whole, after):
        scan.end_epoch(2)
    for epoch in range(3, 6):
        assert np.array_equal(whole.plan(epoch).keep, after.plan(epoch).keep)
