"""Epochs: which samples, in which order, how often read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmark.data import Loader, epoch_batches
from benchmark.pool import Pool, Sample


class CountingPool(Pool):
    """Samples whose image is their id; remembers what was read."""

    fingerprint = "counting"

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
