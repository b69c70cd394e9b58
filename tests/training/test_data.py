"""Epochs: which samples, in which order, how often read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmark.pool.samples import Pool, PoolError, Sample, SampleError
from benchmark.training.loader import Loader
from benchmark.training.order import epoch_batches, window_order


class CountingPool(Pool):
    """Samples whose image is their id; remembers what was read."""

    fingerprint = "counting"
    shard_starts: np.ndarray | None = None  # type: ignore[assignment]

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self.was_read: list[int] = []

    def read(self, sample_id: int) -> Sample:
        self.was_read.append(sample_id)
        return Sample(Image.new("RGB", (1, 1), (sample_id % 256, 0, 0)), "")


def noisy(sample: Sample) -> tuple[torch.Tensor, ...]:
    red = torch.tensor(float(np.asarray(sample.image)[0, 0, 0]))
    return red, torch.rand(3)


def loader(pool: Pool, batch_size: int = 4, **options: int) -> Loader:
    return Loader(pool, noisy, batch_size=batch_size, seed=0, **options)


def collect(
    loader: Loader, epoch: int, keep: np.ndarray, first_step: int = 0
) -> list[tuple[list[int], torch.Tensor]]:
    _, batches = loader.epoch(epoch, keep, first_step)
    return [(batch.ids.tolist(), batch.tensors[1]) for batch in batches]


@settings(max_examples=100, deadline=None)
@given(st.integers(8, 200), st.integers(2, 8), st.integers(0, 1000), st.integers(0, 30), st.floats(0.3, 1))
def test_an_epoch_visits_kept_samples_once_in_the_order_of_the_full_epoch(
    size: int, batch: int, seed: int, epoch: int, share: float
) -> None:
    keep = np.random.default_rng(seed).random(size) < share
    keep[:batch] = True
    visited = epoch_batches(keep, seed=seed, epoch=epoch, batch_size=batch).ravel()
    assert keep[visited].all()
    assert len(set(visited.tolist())) == len(visited) == keep.sum() // batch * batch
    everything = epoch_batches(np.ones(size, dtype=bool), seed=seed, epoch=epoch, batch_size=1).ravel()
    assert visited.tolist() == [i for i in everything if keep[i]][: len(visited)]


def test_epochs_differ_in_order() -> None:
    keep = np.ones(64, dtype=bool)
    orders = {tuple(epoch_batches(keep, seed=0, epoch=e, batch_size=8).ravel().tolist()) for e in range(4)}
    assert len(orders) == 4


def test_a_pruned_sample_is_never_read() -> None:
    pool = CountingPool(32)
    keep = np.arange(32) % 2 == 0
    collect(loader(pool), 0, keep)
    assert sorted(pool.was_read) == list(range(0, 32, 2))


def test_batches_are_the_same_for_any_number_of_workers() -> None:
    keep = np.arange(40) % 3 != 0
    wanted = collect(loader(CountingPool(40)), 1, keep)
    for num_workers in (1, 2):
        found = collect(loader(CountingPool(40), num_workers=num_workers), 1, keep)
        assert [ids for ids, _ in found] == [ids for ids, _ in wanted]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(found, wanted, strict=True))


def test_persistent_workers_follow_a_mask_that_changes_between_epochs() -> None:
    pool_loader = loader(CountingPool(32), num_workers=2)
    for epoch in range(4):
        keep = np.arange(32) % 4 != epoch
        ids = {i for batch, _ in collect(pool_loader, epoch, keep) for i in batch}
        assert ids == set(np.flatnonzero(keep).tolist())


def test_any_step_of_an_epoch_can_be_had_directly() -> None:
    keep = np.ones(32, dtype=bool)
    whole = collect(loader(CountingPool(32)), 2, keep)
    rest = collect(loader(CountingPool(32)), 2, keep, first_step=5)
    assert [ids for ids, _ in rest] == [ids for ids, _ in whole[5:]]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(rest, whole[5:], strict=True))


def test_ranks_share_each_global_batch_in_order() -> None:
    keep = np.ones(32, dtype=bool)
    whole = collect(loader(CountingPool(32), batch_size=8), 0, keep)
    parts = [collect(loader(CountingPool(32), batch_size=8, rank=rank, world=2), 0, keep) for rank in (0, 1)]
    assert [a + b for (a, _), (b, _) in zip(*parts, strict=True)] == [ids for ids, _ in whole]


def test_a_sample_is_augmented_afresh_each_epoch_and_the_same_each_time_it_is_asked_for() -> None:
    keep = np.ones(8, dtype=bool)
    views = {}
    for epoch in (0, 1):
        for ids, noise in collect(loader(CountingPool(8)), epoch, keep):
            views.update({(epoch, i): n for i, n in zip(ids, noise, strict=True)})
    assert not torch.equal(views[0, 3], views[1, 3])
    again = {
        i: n for ids, noise in collect(loader(CountingPool(8)), 0, keep) for i, n in zip(ids, noise, strict=True)
    }
    assert torch.equal(again[3], views[0, 3])


def test_reading_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    collect(loader(CountingPool(16)), 0, np.ones(16, dtype=bool))
    assert torch.equal(torch.get_rng_state(), before)


def test_fewer_kept_samples_than_a_batch_is_an_error_that_says_so() -> None:
    keep = np.zeros(32, dtype=bool)
    keep[:3] = True
    with pytest.raises(ValueError, match=r"epoch 5 keeps 3 of 32 samples, fewer than train.batch_size 4"):
        loader(CountingPool(32)).epoch(5, keep)


def test_a_batch_that_ranks_cannot_share_is_an_error() -> None:
    with pytest.raises(ValueError, match="multiple of the 3 ranks"):
        loader(CountingPool(32), world=3)


class DamagedPool(CountingPool):
    """Every sample whose id is in ``bad`` cannot be decoded."""

    def __init__(self, num_samples: int, bad: set[int]) -> None:
        super().__init__(num_samples)
        self.bad = bad

    def read(self, sample_id: int) -> Sample:
        if sample_id in self.bad:
            raise SampleError("image_undecodable", f"sample {sample_id}: image_undecodable")
        return super().read(sample_id)


def test_a_sample_that_cannot_be_read_leaves_the_batch_full_wherever_it_is_read() -> None:
    keep = np.arange(64) % 4 != 0
    bad = {1, 2, 7, 33, 41, 50}
    found = []
    for world, num_workers in ((1, 0), (1, 2), (2, 1)):
        parts = [
            Loader(DamagedPool(64, bad), noisy, batch_size=8, seed=0, rank=r, world=world, num_workers=num_workers)
            for r in range(world)
        ]
        ranks = [list(part.epoch(3, keep)[1]) for part in parts]
        batches = [[i for rank in ranks for i in rank[step].ids.tolist()] for step in range(len(ranks[0]))]
        faults = {fault.sample_id for rank in ranks for batch in rank for fault in batch.faults}
        found.append((batches, faults))
    assert found[0] == found[1] == found[2]
    batches, faults = found[0]
    assert all(len(batch) == 8 for batch in batches)
    assert faults == {i for i in bad if keep[i]}
    assert not bad & {i for batch in batches for i in batch}
    assert all(keep[i] for batch in batches for i in batch)


def test_a_pool_that_cannot_be_read_at_all_is_an_error_with_an_example() -> None:
    with pytest.raises(PoolError, match="4 samples in a row cannot be read, the last: sample"):
        list(loader(DamagedPool(32, set(range(32)))).epoch(0, np.ones(32, dtype=bool))[1])


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", ["full", "window"])
def test_elastic_batches_do_not_depend_on_ranks_workers_or_restarts(shuffle: str) -> None:
    """1, 2 or 4 ranks, 0 to 2 workers, from any step: the same ids in the same global batches."""
    pool = CountingPool(96)
    pool.shard_starts = np.arange(0, 97, 12)
    keep = np.random.default_rng(0).random(96) < 0.6
    window = 3 if shuffle == "window" else 0
    wanted: list[list[int]] | None = None
    for world in (1, 2, 4):
        for num_workers in (0, 1, 2):
            for first in (0, 3):
                ranks = [
                    Loader(
                        pool,
                        noisy,
                        batch_size=8,
                        seed=5,
                        rank=r,
                        world=world,
                        num_workers=num_workers,
                        window=window,
                    )
                    for r in range(world)
                ]
                parts = [list(part.epoch(2, keep, first)[1]) for part in ranks]
                batches = [[i for p in parts for i in p[step].ids.tolist()] for step in range(len(parts[0]))]
                wanted = wanted or batches
                assert batches == wanted[first:]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 100))
def test_window_order_is_a_permutation_that_reads_few_shards_at_a_time(
    sizes: list[int], window: int, seed: int
) -> None:
    starts = np.concatenate([[0], np.cumsum(sizes)])
    order = window_order(starts, window, seed=seed, epoch=1)
    assert sorted(order.tolist()) == list(range(sum(sizes)))
    shard = np.searchsorted(starts, order, side="right") - 1
    seen: list[int] = list(dict.fromkeys(shard.tolist()))
    for i, one in enumerate(seen):  # a shard is finished before a later window's shards begin
        last = int(np.flatnonzero(shard == one)[-1])
        assert len(set(shard[: last + 1].tolist())) <= i + 2 * window


def test_window_order_differs_between_epochs_and_needs_shards() -> None:
    starts = np.arange(0, 65, 8)
    orders = {tuple(window_order(starts, 2, seed=0, epoch=e).tolist()) for e in range(3)}
    assert len(orders) == 3
    plain = epoch_batches(np.ones(64, dtype=bool), seed=0, epoch=0, batch_size=8)
    assert np.array_equal(plain, epoch_batches(np.ones(64, dtype=bool), seed=0, epoch=0, batch_size=8, window=4))
