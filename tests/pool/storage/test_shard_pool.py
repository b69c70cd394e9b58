"""A pool of shards: ids, its index on disk and when that is made anew, reading from any process, faults."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_files import encoded, number_of_image, sample, words, write_shards, write_tar
from torch.utils.data import DataLoader, Dataset

from benchmark.pool.samples import PoolError, SampleError
from benchmark.pool.storage import arrayfile, byteranges
from benchmark.pool.storage.build import default_places, index_shards
from benchmark.pool.storage.decode import image_from
from benchmark.pool.storage.index import load_index
from benchmark.pool.storage.names import expand
from benchmark.pool.storage.shards import ShardPool
from benchmark.pool.storage.tarscan import TarFormat, TarReader


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(byteranges, "BACKOFF_SECONDS", (0.0, 0.0, 0.0))


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that are scanned from now on."""
    names: list[str] = []
    scan = TarFormat.scan
    monkeypatch.setattr(TarFormat, "scan", lambda form, name: names.append(Path(name).name) or scan(form, name))
    return names


def matches(pool: ShardPool, numbers: list[int]) -> bool:
    read = [pool.read(i) for i in range(pool.num_samples)]
    return [number_of_image(s.image) for s in read] == numbers and [s.caption for s in read] == [
        words(n) for n in numbers
    ]


def test_ids_are_dense_and_follow_the_shards(tmp_path: Path) -> None:
    write_shards(tmp_path, [3, 0, 4])
    pool = ShardPool.open(f"{tmp_path}/{{00000..00002}}.tar")
    assert pool.shard_starts.tolist() == [0, 3, 3, 7]
    assert pool.shard_starts.dtype == np.int64
    assert matches(pool, list(range(7)))
    assert [pool.key(i) for i in (0, 6)] == ["000000000", "000000006"]
    assert pool.shard_of(2).endswith("00000.tar")
    assert pool.shard_of(3).endswith("00002.tar")
    assert pool.caption(5) == words(5)
    for wrong in (-1, 7):
        with pytest.raises(PoolError, match=f"0 to 6, not {wrong}"):
            pool.read(wrong)


def test_a_sample_says_its_source_and_keys_may_repeat(tmp_path: Path) -> None:
    write_tar(tmp_path / "cc12m" / "0.tar", [*sample(1, "same"), *sample(2, "other"), *sample(3, "same")])
    write_tar(tmp_path / "sbu" / "0.tar", sample(4, "same"))
    pool = ShardPool.open(f"{tmp_path}/cc12m/*.tar::{tmp_path}/sbu/0.tar")
    assert [pool.key(i) for i in range(4)] == ["same", "other", "same", "same"]
    assert [pool.source_of(i) for i in range(4)] == ["cc12m", "cc12m", "cc12m", "sbu"]
    assert pool.source_counts() == {"cc12m": 3, "sbu": 1}
    names, of = pool.sample_classes  # type: ignore[misc]
    assert (names, of.tolist()) == (["cc12m", "sbu"], [0, 0, 0, 1])
    assert ShardPool.open(f"{tmp_path}/cc12m/*.tar").sample_classes is None
    assert matches(pool, [1, 2, 3, 4])


def test_the_index_is_kept_and_only_changed_shards_are_scanned_again(
    tmp_path: Path, scanned: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_shards(tmp_path, [2, 2, 2])
    before = ShardPool.open(str(tmp_path))
    assert before.index.path.parent == tmp_path
    assert ShardPool.open(str(tmp_path)).fingerprint == before.fingerprint
    assert scanned == ["00000.tar", "00001.tar", "00002.tar"]
    write_tar(tmp_path / "00001.tar", [entry for n in (50, 51, 52) for entry in sample(n)])
    after = ShardPool.open(str(tmp_path))
    assert scanned[3:] == ["00001.tar"]
    assert "out of date: scanning 1 of 3 shards" in caplog.text
    assert matches(after, [0, 1, 50, 51, 52, 4, 5])
    assert [after.key(i)[-2:] for i in range(7)] == ["00", "01", "50", "51", "52", "04", "05"]
    assert after.fingerprint != before.fingerprint
    with pytest.raises(PoolError, match=r"00001\.tar changed after the pool was opened"):
        before.read(2)


def test_a_touched_shard_is_scanned_again_and_gives_the_same_pool(tmp_path: Path, scanned: list[str]) -> None:
    paths = write_shards(tmp_path, [2, 2])
    before = ShardPool.open(str(tmp_path)).fingerprint
    os.utime(paths[0], ns=(1, 1))
    assert ShardPool.open(str(tmp_path)).fingerprint == before
    assert scanned[2:] == ["00000.tar"]


@pytest.mark.parametrize("member", ["txt", "png"])
def test_contents_that_are_exchanged_make_another_pool_though_lengths_stay(tmp_path: Path, member: str) -> None:
    one, other = sample(10), sample(11)
    write_tar(tmp_path / "0.tar", [*one, *other])
    before = ShardPool.open(str(tmp_path))
    place = {"png": 0, "txt": 1}[member]
    assert len(one[place][1]) == len(other[place][1])
    one[place], other[place] = (one[place][0], other[place][1]), (other[place][0], one[place][1])
    write_tar(tmp_path / "0.tar", [*one, *other])
    assert ShardPool.open(str(tmp_path)).fingerprint != before.fingerprint


def test_a_shard_that_is_written_over_while_it_is_open_is_not_read_on(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path, [3])
    pool = ShardPool.open(str(tmp_path))
    pool.read(0)
    data = path.read_bytes()
    with path.open("r+b") as file:  # in place: the open file shows it
        file.write(data[:5000] + bytes(len(data) - 5000))
    os.utime(path)
    with pytest.raises(PoolError, match=r"00000\.tar changed after the pool was opened"):
        pool.read(1)


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign", "empty", "pickle"])
def test_a_damaged_or_foreign_index_is_built_anew(
    tmp_path: Path, damage: str, scanned: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_shards(tmp_path, [3])
    path = ShardPool.open(str(tmp_path)).index.path
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-300]
    elif damage == "flip":
        data[data.index(b"000000000000000001")] ^= 4  # in the keys
    elif damage == "empty":
        data = bytearray()
    path.write_bytes(bytes(data))
    if damage == "foreign":
        with path.open("wb") as file:
            np.savez(file, something=np.arange(3))
    if damage == "pickle":
        with path.open("wb") as file:
            np.savez(file, header=np.array([{"format": 1}], dtype=object), allow_pickle=True)
    assert matches(ShardPool.open(str(tmp_path)), [0, 1, 2])
    assert "built anew" in caplog.text
    assert len(scanned) == 2


def test_no_flipped_byte_of_an_index_goes_unseen(tmp_path: Path) -> None:
    write_shards(tmp_path, [3, 2])
    path = ShardPool.open(str(tmp_path)).index.path
    whole = path.read_bytes()
    arrays = {name: array.tobytes() for name, array in load_index(path).arrays.items()}
    rng = np.random.default_rng(0)
    seen = 0
    for place in rng.choice(len(whole), 300, replace=False).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            again = load_index(path).arrays
            assert {name: array.tobytes() for name, array in again.items()} == arrays
        except PoolError:
            seen += 1
    assert seen > 150


def test_a_folder_that_cannot_be_written_leaves_the_index_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scanned: list[str]
) -> None:
    write_shards(tmp_path / "data", [2])
    write = arrayfile.write_atomic

    def refuse(path: Path, content: Any) -> None:
        if path.parent == tmp_path / "data":
            raise PermissionError(13, "Permission denied", str(path))
        write(path, content)

    monkeypatch.setattr(arrayfile, "write_atomic", refuse)
    pool = ShardPool.open(str(tmp_path / "data"))
    assert pool.index.path.parent == Path(os.environ["SCAN_BENCH_CACHE"])
    assert matches(ShardPool.open(str(tmp_path / "data")), [0, 1])
    assert scanned == ["00000.tar"]
    monkeypatch.setenv("SCAN_BENCH_CACHE", "/proc/none")
    with pytest.raises(PoolError, match="set SCAN_BENCH_CACHE"):
        ShardPool.open(str(tmp_path / "data"))


def test_an_out_of_date_index_in_a_read_only_folder_does_not_hide_the_one_in_the_cache(
    tmp_path: Path, scanned: list[str]
) -> None:
    path = write_shards(tmp_path, [2])[0]
    names = expand(str(tmp_path))
    beside, cached = default_places(names)
    index_shards(names, beside)
    os.utime(path, ns=(1, 1))
    index_shards(names, cached)
    assert ShardPool.open(str(tmp_path)).index.path == cached
    assert len(scanned) == 2


def test_a_folder_can_be_moved_with_its_index(tmp_path: Path, scanned: list[str]) -> None:
    write_shards(tmp_path / "a" / "cc3m", [2, 1])
    before = ShardPool.open(f"{tmp_path}/a/cc3m")
    (tmp_path / "a").rename(tmp_path / "b")
    after = ShardPool.open(f"{tmp_path}/b/cc3m")
    assert len(scanned) == 2
    assert after.fingerprint == before.fingerprint
    assert matches(after, [0, 1, 2])


def test_an_index_file_stands_for_its_shards(tmp_path: Path) -> None:
    write_shards(tmp_path / "data", [2])
    out = tmp_path / "elsewhere" / "my.npz"
    index_shards(expand(str(tmp_path / "data")), out)
    pool = ShardPool.open(str(out))
    assert pool.index.path == out
    assert matches(pool, [0, 1])


def test_several_processes_scan_as_one(tmp_path: Path) -> None:
    write_shards(tmp_path / "data", [2] * 17)
    names = expand(str(tmp_path / "data"))
    one = index_shards(names, tmp_path / "one.npz", jobs=1)
    two = index_shards(names, tmp_path / "two.npz", jobs=2)
    assert one.fingerprint == two.fingerprint
    assert {n: a.tolist() for n, a in one.arrays.items()} == {n: a.tolist() for n, a in two.arrays.items()}


def test_missing_shards_are_named_and_the_rest_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_shards(tmp_path, [1, 1])
    pattern = f"{tmp_path}/{{00000..00002}}.tar"
    assert ShardPool.open(pattern).num_samples == 2
    assert "00002.tar does not exist" in caplog.text
    write_tar(tmp_path / "00002.tar", sample(9))
    assert matches(ShardPool.open(pattern), [0, 1, 9])
    with pytest.raises(PoolError, match="none of 1 shards exists"):
        ShardPool.open(f"{tmp_path}/absent.tar")
    with pytest.raises(PoolError, match="no shards match"):
        ShardPool.open(f"{tmp_path}/x*.tar")


def test_the_fingerprint_does_not_depend_on_the_place(tmp_path: Path) -> None:
    write_shards(tmp_path / "a", [2, 3])
    write_shards(tmp_path / "b", [2, 3])
    write_shards(tmp_path / "c", [2, 3], first=1)
    a, b, c = (ShardPool.open(str(tmp_path / name)).fingerprint for name in "abc")
    assert a == b != c


def test_a_pickled_pool_is_small_and_reads_the_same(tmp_path: Path) -> None:
    write_shards(tmp_path, [20])
    pool = ShardPool.open(str(tmp_path), decode_size=32)
    pool.read(3)
    data = pickle.dumps(pool)
    assert len(data) < 400
    again = pickle.loads(data)  # noqa: S301
    assert (again.fingerprint, again.decode_size) == (pool.fingerprint, 32)
    assert matches(again, list(range(20)))


def test_a_pickled_pool_notices_that_its_index_was_replaced(tmp_path: Path) -> None:
    write_shards(tmp_path, [2])
    data = pickle.dumps(ShardPool.open(str(tmp_path)))
    write_shards(tmp_path, [3])
    ShardPool.open(str(tmp_path))
    with pytest.raises(PoolError, match="start again"):
        pickle.loads(data)  # noqa: S301


class _Numbers(Dataset[tuple[int, int]]):
    def __init__(self, pool: ShardPool) -> None:
        self.pool = pool

    def __getitem__(self, sample_id: int) -> tuple[int, int]:
        read = self.pool.read(sample_id)
        return number_of_image(read.image), int(read.caption.split(" ")[1])

    def __len__(self) -> int:
        return self.pool.num_samples


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_loader_workers_read_the_pool(tmp_path: Path, start: str) -> None:
    write_shards(tmp_path, [5] * 4)
    pool = ShardPool.open(str(tmp_path))
    pool.read(0)  # an open file of the parent's must not disturb the workers
    loader = DataLoader(_Numbers(pool), batch_size=4, num_workers=2, multiprocessing_context=start)
    read = [(int(a), int(b)) for images, captions in loader for a, b in zip(images, captions, strict=True)]
    assert read == [(n, n) for n in range(20)]


def test_threads_share_few_open_files(tmp_path: Path) -> None:
    write_shards(tmp_path, [2] * 12)
    pool = ShardPool.open(str(tmp_path))
    assert isinstance(pool.reader, TarReader)
    pool.reader.ranges._limit = 3
    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(8) as threads:
        ids = np.random.default_rng(0).integers(0, 24, 2000).tolist()
        assert list(threads.map(lambda i: number_of_image(pool.read(i).image), ids)) == ids
    assert len(os.listdir("/proc/self/fd")) <= before + 3


def test_a_damaged_image_is_named_with_its_reason(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [*sample(1), ("bad.jpg", b"<html>"), ("bad.txt", b"a page"), *sample(2)])
    pool = ShardPool.open(str(tmp_path))
    with pytest.raises(SampleError, match=r"sample 1 \(bad in .*0\.tar\): image_undecodable") as fault:
        pool.read(1)
    assert fault.value.reason == "image_undecodable"
    again = pickle.loads(pickle.dumps(fault.value))  # noqa: S301
    assert (again.reason, str(again)) == (fault.value.reason, str(fault.value))
    assert pool.read(2).caption == words(2)


def test_a_read_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_shards(tmp_path, [2])
    pool = ShardPool.open(str(tmp_path))
    pread, failures = os.pread, 3

    def flaky(descriptor: int, length: int, start: int) -> bytes:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise OSError(5, "Input/output error")
        return pread(descriptor, length, start)

    monkeypatch.setattr(os, "pread", flaky)
    assert pool.read(0).caption == words(0)
    assert caplog.text.count("trying again") == 3
    failures = 4
    with pytest.raises(PoolError, match=r"00000\.tar cannot be read: OSError: .*Input/output error"):
        pool.read(1)


def test_a_shard_that_vanishes_is_named(tmp_path: Path) -> None:
    path = write_shards(tmp_path, [2])[0]
    pool = ShardPool.open(str(tmp_path))
    path.unlink()
    with pytest.raises(PoolError, match=r"00000\.tar cannot be read: FileNotFoundError") as fault:
        pool.read(0)
    assert not isinstance(fault.value, SampleError)


def test_image_and_caption_far_apart_are_read_one_by_one(tmp_path: Path) -> None:
    first, last = sample(1)
    write_tar(tmp_path / "0.tar", [first, ("000000001.npy", b"\0" * 100_000), last])
    assert matches(ShardPool.open(str(tmp_path)), [1])


def test_decode_size_reaches_the_decoder(tmp_path: Path) -> None:
    jpeg = encoded(image_from(sample(9)[0][1]).resize((640, 320)), "JPEG")
    write_tar(tmp_path / "0.tar", [("1.jpg", jpeg), ("1.txt", b"words")])
    assert ShardPool.open(str(tmp_path)).read(0).image.size == (640, 320)
    assert ShardPool.open(str(tmp_path), decode_size=80).read(0).image.size == (160, 80)


def test_opening_a_pool_needs_no_torch(tmp_path: Path) -> None:
    """Scanning processes import what opening imports: that must stay light."""
    code = "import sys; import benchmark.pool.storage.tarscan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
