"""Decoded samples in memory: the same batches, fewer reads, never more memory than was asked for."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from tiny import TINY_MOCO, clip_grid

from benchmark.config.run import Choice
from benchmark.job import process, work
from benchmark.models.clip.transform import ClipTransform
from benchmark.models.moco.crops import Crops
from benchmark.models.moco.options import model_options
from benchmark.models.moco.views import TwoViews
from benchmark.models.objective import Transform
from benchmark.plan.plan import PlannedRun
from benchmark.pool.cache import CachedPool
from benchmark.pool.samples import Pool, Sample, SampleError
from benchmark.runs.record import read_record
from benchmark.seeds import generator
from benchmark.training.loader import Loader

PLENTY = 10**8
MOCO = model_options(Choice(name="tiny", options=TINY_MOCO["tiny"]), "model")


class NoisyPool(Pool):
    """Noise of many sizes with captions; remembers what was read. The samples in ``bad`` cannot be."""

    fingerprint = "noise"

    def __init__(self, num_samples: int, bad: frozenset[int] = frozenset()) -> None:
        self.num_samples, self.bad = num_samples, bad
        self.was_read: list[int] = []

    def read(self, sample_id: int) -> Sample:
        self.was_read.append(sample_id)
        if sample_id in self.bad:
            raise SampleError("image_undecodable", f"sample {sample_id}: image_undecodable")
        rng = generator(sample_id, "noise")
        pixels = rng.integers(0, 256, (*rng.integers(1, 12, 2), 3), dtype=np.uint8)
        return Sample(Image.fromarray(pixels), f"a sample – number {sample_id}")


class Plain(Pool):
    """Black squares; remembers nothing."""

    fingerprint = "plain"

    def __init__(self, num_samples: int, side: int) -> None:
        self.num_samples, self.side = num_samples, side

    def read(self, sample_id: int) -> Sample:
        return Sample(Image.new("RGB", (self.side, self.side)), f"number {sample_id}")


def two_views() -> TwoViews:
    return TwoViews(MOCO)


def crops() -> Crops:
    return Crops(MOCO)


def epochs_of(pool: Pool, transform: Transform, num_workers: int, keep: np.ndarray) -> list[list[torch.Tensor]]:
    """Ids, tensors and ids of faults of every batch of three epochs."""
    loader = Loader(pool, transform, batch_size=4, seed=0, num_workers=num_workers)
    batches = [batch for epoch in range(3) for batch in loader.epoch(epoch, keep)[1]]
    loader.close()
    return [[b.ids, *b.tensors, torch.tensor([fault.sample_id for fault in b.faults])] for b in batches]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("limit_bytes", [8000, PLENTY], ids=["full early", "room for all"])
@pytest.mark.parametrize(
    "make", [lambda: ClipTransform(8, 16), two_views, crops], ids=["clip", "moco", "moco on device"]
)
def test_batches_are_the_same_bit_for_bit(
    make: Callable[[], Transform], limit_bytes: int, num_workers: int
) -> None:
    keep, bad = np.arange(24) % 5 != 0, frozenset({3, 11})
    wanted = epochs_of(NoisyPool(24, bad), make(), 0, keep)
    found = epochs_of(CachedPool(NoisyPool(24, bad), limit_bytes), make(), num_workers, keep)
    assert len(found) == len(wanted) > 0
    for ours, theirs in zip(found, wanted, strict=True):
        assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_sample_is_read_once_a_faulty_one_each_time_and_a_pruned_one_never() -> None:
    pool = NoisyPool(24, frozenset({3}))
    cached, keep = CachedPool(pool, PLENTY), np.arange(24) % 3 != 1
    epochs_of(cached, two_views(), 0, keep)
    assert sorted(i for i in pool.was_read if i != 3) == [i for i in range(24) if keep[i] and i != 3]
    assert pool.was_read.count(3) == 3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 6000))
def test_whatever_is_read_is_what_the_pool_holds_even_after_a_reader_drew_on_it(
    ids: list[int], limit_bytes: int
) -> None:
    pool = NoisyPool(10)
    cached = CachedPool(pool, limit_bytes)
    for sample_id in ids:
        found, wanted = cached.read(sample_id), NoisyPool(10).read(sample_id)
        assert (found.caption, found.image.size, found.image.mode) == (wanted.caption, wanted.image.size, "RGB")
        assert found.image.tobytes() == wanted.image.tobytes()
        ImageDraw.Draw(found.image).rectangle((0, 0, 12, 12), fill=(1, 2, 3))
    kept = {i for i in ids if pool.was_read.count(i) < ids.count(i)}
    assert sum(len(pool.read(i).image.tobytes()) for i in kept) <= limit_bytes


@pytest.mark.parametrize("side", [1, 100])
def test_memory_stays_within_the_limit_and_makes_use_of_it(side: int) -> None:
    limit = 500_000
    cached = CachedPool(Plain(5000, side), limit)
    tracemalloc.start()
    for sample_id in range(5000):
        cached.read(sample_id)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= limit + 3 * side**2  # an image on its way
    assert held > limit / 4


def test_a_worker_gets_the_pool_without_what_it_holds() -> None:
    cached = CachedPool(Plain(50, 8), PLENTY)
    empty = len(pickle.dumps(cached))
    for sample_id in range(50):
        cached.read(sample_id)
    assert len(pickle.dumps(cached)) == empty
    assert pickle.loads(pickle.dumps(cached)).read(7).caption == cached.read(7).caption  # noqa: S301 (made here)


def test_everything_else_is_asked_of_the_pool_itself() -> None:
    public = {name for name in vars(Pool) if not name.startswith("_")}
    assert public <= set(vars(CachedPool))


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_keeps_its_name_and_its_weights_and_its_workers_share_the_limit(
    planned: Callable[..., list[PlannedRun]], monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    limits: list[int] = []

    def spy(pool: Pool, limit_bytes: int) -> CachedPool:
        limits.append(limit_bytes)
        return CachedPool(pool, limit_bytes)

    monkeypatch.setattr(work, "CachedPool", spy)
    (plain,) = planned(clip_grid(), results="plain")
    (cached,) = planned(clip_grid(train={"image_cache_mb": 1, "num_workers": num_workers}), results="cached")
    assert cached.folder.name == plain.folder.name
    assert process.run(plain.folder) == process.run(cached.folder) == "done"
    assert limits == [10**6 // max(1, num_workers)]
    records = [read_record(run.folder / "record.json") for run in (plain, cached)]
    assert records[0]["weights"] == records[1]["weights"]
    assert records[0]["pruning_truth"] == records[1]["pruning_truth"]


def test_a_limit_below_0_is_one_clear_error(planned: Callable[..., list[PlannedRun]]) -> None:
    with pytest.raises(ValueError, match=r"train: image_cache_mb must be at least 0, got -1$"):
        planned(clip_grid(train={"image_cache_mb": -1}))
