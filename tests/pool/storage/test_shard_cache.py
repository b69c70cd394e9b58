"""Shards copied to a local disk: the same samples, never more bytes than allowed, whatever becomes of them."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from patience import patience
from shard_files import number_of_image, png, words, write_tar

from benchmark.config.identity import identity_of
from benchmark.models.clip.transform import ClipTransform
from benchmark.pool.cache import CachedPool
from benchmark.pool.plant import Plant, PlantedPool
from benchmark.pool.samples import Pool
from benchmark.pool.sources.webdataset import WebDataset
from benchmark.pool.storage import shardcache
from benchmark.pool.storage.byteranges import ByteRanges
from benchmark.pool.storage.shardcache import ShardCache
from benchmark.pool.storage.shards import ShardPool
from benchmark.training.loader import Loader
from benchmark.training.order import epoch_batches

SHARDS, EACH = 6, 8
ALL = np.arange(SHARDS * EACH)
PLENTY = 10**8


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six shards of eight samples; a large member makes each some 100 KB."""
    monkeypatch.setattr(shardcache, "WAIT_SECONDS", 0.005)
    for shard in range(SHARDS):
        numbers = range(shard * EACH, (shard + 1) * EACH)
        entries = [e for n in numbers for e in ((f"{n:04d}.png", png(n)), (f"{n:04d}.txt", words(n).encode()))]
        write_tar(tmp_path / "shards" / f"{shard}.tar", [*entries, ("filler.bin", os.urandom(100_000))])
    return tmp_path / "shards"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copies"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Name and length of every read from a shard in its place."""
    reads: list[tuple[str, int]] = []
    plain = ByteRanges.read

    def read(self: ByteRanges, name: str, start: int, length: int, expected: Any) -> bytes:
        reads.append((Path(name).name, length))
        return plain(self, name, start, length, expected)

    monkeypatch.setattr(ByteRanges, "read", read)
    return reads


def opened(shards: Path, folder: Path, limit_bytes: int = PLENTY) -> ShardPool:
    return ShardPool.open(str(shards), cache=ShardCache(folder, limit_bytes))


def numbers(pool: Pool, ids: Sequence[int]) -> list[tuple[int, str]]:
    return [(number_of_image(s.image), s.caption) for s in map(pool.read, ids)]


def right(ids: Sequence[int]) -> list[tuple[int, str]]:
    return [(i, words(i)) for i in ids]


def copies(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.shard"))


def until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + patience(20)
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def copy_all(pool: ShardPool, folder: Path, count: int = SHARDS) -> None:
    with pool.expect(ALL):
        until(lambda: len(copies(folder)) >= count)


def used(folder: Path) -> int:
    """Files come and go meanwhile: one may be renamed as the folder is listed."""
    found = {}
    for path in list(folder.glob("*.[sp]*")):
        with suppress(FileNotFoundError):
            found[path.stem] = path.stat().st_size
    return sum(found.values())


@pytest.mark.parametrize("window", [0, 2], ids=["full", "window"])
@pytest.mark.parametrize("limit", [PLENTY, 250_000], ids=["room for all", "room for two"])
def test_epochs_hold_the_same_samples_and_the_limit_is_never_passed(
    shards: Path, folder: Path, window: int, limit: int
) -> None:
    pool = opened(shards, folder, limit)
    for epoch in range(3):
        everything, starts = np.ones(len(ALL), dtype=bool), pool.shard_starts
        batches = epoch_batches(everything, seed=0, epoch=epoch, batch_size=4, shard_starts=starts, window=window)
        with pool.expect(batches.reshape(-1)) as count:
            for step, ids in enumerate(batches.tolist(), start=1):
                assert numbers(pool, ids) == right(ids)
                assert not folder.exists() or used(folder) <= limit
                count(4 * step)
                time.sleep(0.005)
    assert 0 < len(copies(folder)) <= (SHARDS if limit == PLENTY else 2)


def test_what_is_copied_is_not_read_in_its_place_again(
    shards: Path, folder: Path, elsewhere: list[tuple[str, int]]
) -> None:
    pool = opened(shards, folder)
    copy_all(pool, folder)
    assert sorted(elsewhere) == sorted((p.name, p.stat().st_size) for p in shards.glob("*.tar"))
    elsewhere.clear()
    again = pickle.loads(pickle.dumps(opened(shards, folder)))  # noqa: S301 (made here)
    assert numbers(again, ALL.tolist()) == right(ALL.tolist())
    copy_all(again, folder)
    assert elsewhere == []


def test_shards_come_in_the_order_of_the_epoch_and_go_when_it_has_passed_them(shards: Path, folder: Path) -> None:
    size = next(shards.glob("*.tar")).stat().st_size
    pool, order = opened(shards, folder, int(2.5 * size)), ALL[::-1]

    def names(*wanted: int) -> set[str]:
        return {pool._key_of(number) for number in wanted}

    with pool.expect(order) as count:
        until(lambda: {path.stem for path in copies(folder)} == names(5, 4))
        count(EACH)
        until(lambda: {path.stem for path in copies(folder)} == names(4, 3))
        count(4 * EACH)
        until(lambda: {path.stem for path in copies(folder)} == names(1, 0))


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_gives_the_same_batches_and_has_the_shards_copied(
    shards: Path, folder: Path, num_workers: int
) -> None:
    def batches(pool: ShardPool, num_workers: int) -> list[list[torch.Tensor]]:
        loader = Loader(pool, ClipTransform(8, 16), batch_size=4, seed=0, num_workers=num_workers, window=2)
        found = []
        for epoch in range(2):
            for batch in loader.epoch(epoch, ALL % 3 != 0)[1]:
                found.append([batch.ids, *batch.tensors])
                if pool.cache is not None and len(found) == 2:
                    until(lambda: len(copies(folder)) == SHARDS)
        loader.close()
        return found

    wanted, found = batches(ShardPool.open(str(shards)), 0), batches(opened(shards, folder), num_workers)
    assert len(found) == len(wanted) == 16
    assert all(torch.equal(a, b) for x, y in zip(found, wanted, strict=True) for a, b in zip(x, y, strict=True))


def test_pools_that_stand_on_shards_hand_the_order_on(shards: Path, folder: Path) -> None:
    planted = PlantedPool(opened(shards, folder), Plant(near_duplicates=0.4, seed=1))
    outer = CachedPool(planted, 1)
    with outer.expect(ALL):
        until(lambda: len(copies(folder)) == SHARDS)


def read_epochs(shards: Path, folder: Path, seed: int, told: Any) -> None:
    shardcache.WAIT_SECONDS = 0.005
    pool = opened(shards, folder, 450_000)
    for epoch in range(6):
        ids = np.random.default_rng((seed, epoch)).permutation(ALL)
        with pool.expect(ids) as count:
            for done, i in enumerate(ids.tolist(), start=1):
                assert numbers(pool, [i]) == right([i])
                assert used(folder) <= 450_000
                count(done)
    told.put(os.getpid())


@pytest.mark.slow
def test_two_processes_share_a_folder(shards: Path, folder: Path) -> None:
    folder.mkdir()
    context = multiprocessing.get_context("fork")
    told: Any = context.Queue()
    readers = [context.Process(target=read_epochs, args=(shards, folder, seed, told)) for seed in (0, 1)]
    for reader in readers:
        reader.start()
    finished = {told.get(timeout=patience(60)) for _ in readers}
    for reader in readers:
        reader.join()
    assert finished == {reader.pid for reader in readers}
    assert [reader.exitcode for reader in readers] == [0, 0]
    assert 0 < len(copies(folder)) <= 3


def copy_slowly(shards: Path, folder: Path) -> None:
    shardcache.CHUNK = 4096
    plain = ByteRanges.read

    def read(self: ByteRanges, name: str, start: int, length: int, expected: Any) -> bytes:
        if start:
            time.sleep(3600)
        return plain(self, name, start, length, expected)

    ByteRanges.read = read  # type: ignore[method-assign]
    with opened(shards, folder).expect(ALL):
        time.sleep(3600)


@pytest.mark.slow
def test_a_process_killed_as_it_copies_leaves_nothing_that_lasts(shards: Path, folder: Path) -> None:
    copier = multiprocessing.get_context("fork").Process(target=copy_slowly, args=(shards, folder))
    copier.start()
    until(lambda: list(folder.glob("*.part")) and used(folder) > 100_000)
    pool = opened(shards, folder)
    with pool.expect(ALL):  # the shard that the other one is at is left to it, and read in its place
        until(lambda: len(copies(folder)) == SHARDS - 1)
        assert numbers(pool, ALL.tolist()) == right(ALL.tolist())
        assert len(list(folder.glob("*.part"))) == 1
    assert copier.pid is not None
    os.kill(copier.pid, signal.SIGKILL)
    copier.join()
    copy_all(pool, folder)
    assert list(folder.glob("*.part")) == []
    assert numbers(pool, ALL.tolist()) == right(ALL.tolist())


def test_a_full_disk_means_reading_on_in_place_with_one_warning(
    shards: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    pool = opened(shards, folder)
    with pool.expect(ALL):
        until(lambda: "No space left on device" in caplog.text)
        assert numbers(pool, ALL.tolist()) == right(ALL.tolist())
    assert caplog.text.count("no more shards are copied") == 1
    assert used(folder) == 0


def test_a_folder_that_cannot_be_made_is_the_same(
    shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    pool = opened(shards, tmp_path / "file" / "copies")
    with pool.expect(ALL):
        until(lambda: "no more shards are copied" in caplog.text)
        assert numbers(pool, ALL.tolist()) == right(ALL.tolist())


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_copy_is_never_read_and_made_anew(
    shards: Path, folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    pool = opened(shards, folder)
    copy_all(pool, folder)
    for path in copies(folder):
        data = bytearray(path.read_bytes())
        data[520] ^= 1  # within the first image
        path.write_bytes({"flip": bytes(data), "cut": bytes(data[:600]), "empty": b""}[damage])
    assert numbers(pool, ALL.tolist()) == right(ALL.tolist())
    assert copies(folder) == []
    assert caplog.text.count("is damaged: it is removed") == SHARDS
    copy_all(pool, folder)
    assert numbers(pool, ALL.tolist()) == right(ALL.tolist())


def test_a_copy_of_a_shard_that_has_changed_is_not_taken_for_it(shards: Path, folder: Path) -> None:
    copy_all(opened(shards, folder), folder)
    entries = [e for n in range(90, 98) for e in ((f"{n:04d}.png", png(n)), (f"{n:04d}.txt", words(n).encode()))]
    write_tar(shards / "0.tar", entries)
    pool = opened(shards, folder)
    assert numbers(pool, [0, 7, 8]) == right([90, 97, 8])
    copy_all(pool, folder, SHARDS + 1)
    assert numbers(pool, [0, 7, 8]) == right([90, 97, 8])


def test_the_option_of_the_source_changes_no_name_and_takes_the_jobs_disk(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = WebDataset(name="pictures", shards=str(shards))
    kept = WebDataset(name="pictures", shards=str(shards), cache_gb=0.5)
    assert identity_of({"pool": plain}) == identity_of({"pool": kept})
    assert plain == kept, "a reference set must not pass for other data than the pool's"
    assert plain.training_pool().cache is None
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path / "job"))
    cache = kept.training_pool().cache
    assert cache == ShardCache(tmp_path / "job" / f"scan-bench-shards-{os.getuid()}", 500_000_000)
    own = WebDataset(name="pictures", shards=str(shards), cache_gb=1, cache_folder=str(tmp_path / "own"))
    assert own.training_pool().cache == ShardCache(tmp_path / "own", 10**9)
    with pytest.raises(ValueError, match="cache_gb must be at least 0"):
        WebDataset(name="pictures", cache_gb=-1)
