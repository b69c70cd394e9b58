"""Shards behind a web server are scanned once and then read by byte ranges."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from patience import patience
from range_server import RangeServer, serving
from shard_files import number_of_image, sample, words, write_shards, write_tar
from torch.utils.data import DataLoader

from benchmark.pool.samples import PoolError
from benchmark.pool.storage import byteranges
from benchmark.pool.storage.shardcache import ShardCache
from benchmark.pool.storage.shards import ShardPool

pytest.importorskip("aiohttp", reason="needs the extra 'remote'")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(byteranges, "BACKOFF_SECONDS", (0.0, 0.0, 0.0))
    (tmp_path / "www").mkdir()
    with serving(tmp_path / "www") as running:
        yield running


def test_samples_are_read_by_one_range_request_each(server: RangeServer, tmp_path: Path) -> None:
    write_shards(server.folder / "cc3m", [3, 4])
    pool = ShardPool.open(f"{server.address}/cc3m/{{00000..00001}}.tar")
    assert pool.index.path.parent == tmp_path / "cache"
    assert pool.source_counts() == {"cc3m": 7}
    server.requests.clear()
    for i in (6, 0, 3):
        sample = pool.read(i)
        assert (number_of_image(sample.image), sample.caption) == (i, words(i))
    assert [method for method, _ in server.requests] == ["GET"] * 3
    assert all(wanted.startswith("bytes=") for _, wanted in server.requests)


def test_the_index_is_kept_until_a_shard_changes(server: RangeServer) -> None:
    write_shards(server.folder, [3])
    url = f"{server.address}/00000.tar"
    ShardPool.open(url)
    server.requests.clear()
    assert ShardPool.open(url).num_samples == 3
    assert all(method == "HEAD" for method, _ in server.requests)
    write_tar(server.folder / "00000.tar", [entry for n in range(90) for entry in sample(n)])
    assert ShardPool.open(url).num_samples == 90


def test_copied_shards_are_asked_of_the_server_once(server: RangeServer, tmp_path: Path) -> None:
    write_shards(server.folder, [3, 4])
    pool = ShardPool.open(f"{server.address}/{{00000..00001}}.tar", cache=ShardCache(tmp_path / "copies", 10**6))
    server.requests.clear()
    with pool.expect(np.arange(7)):
        end = time.monotonic() + patience(20)
        while len(list((tmp_path / "copies").glob("*.shard"))) < 2:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert [method for method, _ in server.requests] == ["GET"] * 2
    assert [pool.read(i).caption for i in range(7)] == [words(i) for i in range(7)]
    assert len(server.requests) == 2


def test_local_and_remote_shards_mix(server: RangeServer, tmp_path: Path) -> None:
    write_shards(server.folder, [2])
    write_tar(tmp_path / "here" / "0.tar", sample(7))
    pool = ShardPool.open(f"{server.address}/00000.tar::{tmp_path}/here")
    assert [pool.read(i).caption for i in range(3)] == [words(n) for n in (0, 1, 7)]


def test_forked_workers_read_remote_shards(server: RangeServer) -> None:
    write_shards(server.folder, [6])
    pool = ShardPool.open(f"{server.address}/00000.tar")
    pool.read(0)
    loader: DataLoader[str] = DataLoader(
        range(6),  # type: ignore[arg-type]
        num_workers=2,
        multiprocessing_context="fork",
        collate_fn=lambda ids: pool.read(ids[0]).caption,
        timeout=patience(30),
    )
    assert list(loader) == [words(n) for n in range(6)]


def test_absent_shards_and_failing_servers_are_told_apart(server: RangeServer) -> None:
    write_shards(server.folder, [2])
    url = f"{server.address}/00000.tar"
    with pytest.raises(PoolError, match="none of 1 shards exists"):
        ShardPool.open(f"{server.address}/absent.tar")
    pool = ShardPool.open(url)
    server.failures = 3
    assert pool.read(1).caption == words(1)
    server.failures = 4
    with pytest.raises(PoolError, match=r"00000\.tar cannot be read"):
        pool.read(1)


def test_a_remote_shard_that_changes_while_it_is_read_is_noticed(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(server.folder, [3])
    pool = ShardPool.open(f"{server.address}/00000.tar")
    write_tar(server.folder / "00000.tar", [entry for n in range(90) for entry in sample(n)])
    monkeypatch.setattr(byteranges, "RECHECK_SECONDS", 0.0)
    with pytest.raises(PoolError, match=r"00000\.tar changed after the pool was opened"):
        pool.read(0)


def test_a_server_that_never_answers_holds_no_worker(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(server.folder, [2])
    url = f"{server.address}/00000.tar"
    pool = ShardPool.open(url)
    monkeypatch.setattr(byteranges, "ANSWER_SECONDS", 0.2)
    server.is_silent = True
    try:
        with pytest.raises(PoolError, match=r"00000\.tar cannot be read: FSTimeoutError"):
            pool.read(0)
        with pytest.raises(PoolError, match=r"00000\.tar cannot be read: FSTimeoutError"):
            byteranges.stamp(url)
    finally:
        server.is_silent = False
    assert pool.read(0).caption == words(0)


def test_a_server_without_ranges_is_refused(server: RangeServer) -> None:
    write_shards(server.folder, [2])
    url = f"{server.address}/00000.tar"
    pool = ShardPool.open(url)
    server.serves_ranges = False
    with pytest.raises(PoolError, match="ignores range requests"):
        pool.read(0)


def test_unknown_protocols_and_missing_packages_fail_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byteranges, "BACKOFF_SECONDS", (1e6,))
    with pytest.raises(PoolError, match=r"nonsense://x/0\.tar cannot be read: Protocol not known"):
        ShardPool.open("nonsense://x/0.tar")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(PoolError, match="s3fs"):
        ShardPool.open("s3://bucket/0.tar")
