"""Parquet: columns of every kind, what is no sample, row groups read for a sample of theirs alone, ranges."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pair_files import as_parquet, make_pairs
from range_server import RangeServer, serving
from shard_files import number_of_image, png, words

from benchmark.config.run import Choice
from benchmark.options import ConfigError
from benchmark.pool.samples import PoolError, SampleError
from benchmark.pool.source import make_source
from benchmark.pool.sources.parquet import Parquet
from benchmark.pool.storage import byteranges, parquet
from benchmark.pool.storage.parquet import RowReader
from benchmark.pool.storage.shards import ShardPool


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(byteranges, "BACKOFF_SECONDS", (0.0, 0.0, 0.0))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Row groups that are read from now on."""
    numbers: list[int] = []
    load = RowReader._loaded
    monkeypatch.setattr(
        RowReader, "_loaded", lambda reader, number: numbers.append(number) or load(reader, number)
    )
    return numbers


def write(path: Path, rows: int = 3, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return path


def opened(files: Path | str, **options: Any) -> ShardPool:
    return Parquet(name="x", files=str(files), **options).training_pool()


IMAGES, TEXTS = [png(i) for i in range(7)], [words(i) for i in range(7)]


@pytest.mark.parametrize(
    ("image", "caption"),
    [
        (pa.array(IMAGES, pa.binary()), pa.array(TEXTS)),
        (pa.array(IMAGES, pa.large_binary()), pa.array(TEXTS, pa.large_string())),
        (pa.array([{"bytes": image, "path": None} for image in IMAGES]), pa.array(TEXTS).dictionary_encode()),
        (pa.array([{"path": "x", "bytes": image} for image in IMAGES]), pa.array([[text] for text in TEXTS])),
    ],
)
def test_columns_of_every_kind(tmp_path: Path, image: pa.Array, caption: pa.Array) -> None:
    write(tmp_path / "a.parquet", image=image, caption=caption)
    pool = opened(tmp_path)
    assert pool.shard_starts.tolist() == [0, 3, 6, 7]
    read = [pool.read(i) for i in (6, 0, 1, 2, 3, 4, 5)]
    assert [number_of_image(sample.image) for sample in read] == [6, 0, 1, 2, 3, 4, 5]
    assert [sample.caption for sample in read] == [words(n) for n in (6, 0, 1, 2, 3, 4, 5)]
    assert (pool.key(4), pool.shard_of(4)) == ("a.parquet/4", f"{tmp_path}/a.parquet#1")


def test_what_is_no_sample_is_counted_and_its_row_read_by_nobody(tmp_path: Path) -> None:
    not_text = pa.array([b"\xff", *[text.encode() for text in TEXTS[:6]]]).view(pa.string())
    captions = [None, " ", *TEXTS[:5]]
    images = [png(1), png(2), None, b"", b"no image", png(3), png(4)]
    write(tmp_path / "a.parquet", rows=4, image=images, caption=captions, other=not_text)
    pool = opened(tmp_path)
    assert pool.skipped == {"caption_empty": 1, "caption_missing": 1, "image_empty": 1, "image_missing": 1}
    with pytest.raises(SampleError, match=r"sample 0 \(a.parquet/4 in .*a.parquet#1\): image_undecodable"):
        pool.read(0)
    assert [number_of_image(pool.read(i).image) for i in (1, 2)] == [3, 4]
    images[3] = png(9)
    write(tmp_path / "b" / "a.parquet", image=images[3:], caption=not_text[:4])
    assert opened(tmp_path / "b").skipped == {"caption_not_utf8": 1}


def test_a_row_group_is_read_for_the_first_of_its_samples_that_is_visited(
    tmp_path: Path, loaded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.parquet", image=IMAGES, caption=TEXTS)
    pool = opened(tmp_path)
    assert [pool.caption(i) for i in range(7)] == TEXTS
    assert loaded == []
    for i in (0, 2, 6, 1):
        pool.read(i)
    assert loaded == [0, 2]
    monkeypatch.setattr(parquet, "KEPT_BYTES", 1)
    for i in (3, 4, 0):
        pool.read(i)
    assert loaded == [0, 2, 1, 0]


def test_keys_and_columns_are_named_or_told_what_there_is(tmp_path: Path) -> None:
    rows = [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(IMAGES)]
    write(tmp_path / "a.parquet", image=rows, caption=TEXTS, uid=[100 + i for i in range(7)], txt=["t"] * 7)
    assert [opened(tmp_path, key=key).key(6) for key in ("uid", "image.path")] == ["106", "6.png"]
    assert opened(tmp_path, caption="txt").caption(0) == "t"
    assert opened(tmp_path, caption="").read(0).caption == ""
    for options, said in (
        (
            {"image": "img"},
            r"no column 'img'; did you mean 'image'\? \(it has image, caption, uid, txt\): say which with image",
        ),
        ({"caption": "captions"}, "no column 'captions'; did you mean 'caption'"),
        ({"key": "image.name"}, "no column 'image.name'"),
        ({"image": "caption"}, "'caption' holds string, not bytes"),
        ({"caption": "uid"}, "'uid' holds int64, not text"),
    ):
        with pytest.raises(PoolError, match=said):
            opened(tmp_path, **options)


def test_the_source_takes_its_options_as_a_sweep_file_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCAN_BENCH_DATA", str(tmp_path))
    source = make_source(Choice(name="parquet", options={"name": "mine", "captions": "random"}), "pool")
    with pytest.raises(
        PoolError, match=rf"mine: {tmp_path}/mine is not there .*inspect --pool 'parquet: {{\"name\": \"mine\""
    ):
        source.check_pool()
    write(tmp_path / "mine" / "train.parquet", image=IMAGES, caption=[[text, "other"] for text in TEXTS])
    write(tmp_path / "mine" / "test.parquet", image=IMAGES[:2], caption=[["one", "two"], ["three"]])
    pool = source.training_pool()
    assert (source.label, pool.num_samples, pool.read(3).further) == ("mine-random_captions", 7, ("other",))
    pairs = Parquet(name="mine", heldout_files=str(tmp_path / "mine" / "test.parquet")).pairs()
    assert (pairs.captions, pairs.image_of_caption.tolist()) == (["one", "two", "three"], [0, 0, 1])
    with pytest.raises(ConfigError, match="did you mean 'random'"):
        make_source(Choice(name="parquet", options={"name": "mine", "captions": "randon"}), "pool")


@pytest.mark.parametrize("damage", ["cut", "foreign", "empty"])
def test_a_file_that_is_not_whole_is_counted_and_the_others_are_read(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.parquet", image=IMAGES, caption=TEXTS)
    content = {"cut": (tmp_path / "a.parquet").read_bytes()[:-20], "foreign": b"a page " * 30, "empty": b""}
    (tmp_path / "b.parquet").write_bytes(content[damage])
    pool = opened(tmp_path)
    assert (pool.num_samples, pool.skipped) == (7, {"shard_damaged": 1})
    assert "b.parquet#0 is no whole Parquet file" in caplog.text


def test_a_damaged_page_costs_its_row_group_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", image=IMAGES, caption=TEXTS)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 30] = bytes(30)
    path.write_bytes(bytes(data))
    pool = opened(tmp_path)
    assert [number_of_image(pool.read(i).image) for i in range(pool.num_samples)] == [0, 1, 2, 6]
    assert pool.skipped == {"shard_damaged": 1}


def test_a_disk_that_fails_is_an_error_and_no_damage_to_be_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.parquet", image=IMAGES, caption=TEXTS)
    read = byteranges.ByteRanges._local

    def failing(ranges: Any, name: str, start: int, *rest: Any) -> bytes:
        if start < 100:  # the first pages, not the footer
            raise OSError(5, "Input/output error")
        return read(ranges, name, start, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(byteranges.ByteRanges, "_local", failing)
        with pytest.raises(PoolError, match=r"a\.parquet cannot be read: OSError"):
            opened(tmp_path)
    pool = opened(tmp_path)
    assert (pool.num_samples, pool.skipped) == (7, {})
    monkeypatch.setattr(byteranges.ByteRanges, "_local", failing)
    with pytest.raises(PoolError, match=r"a\.parquet cannot be read: OSError"):
        pool.read(0)


def test_a_file_that_changes_is_indexed_anew_and_not_read_on(tmp_path: Path, loaded: list[int]) -> None:
    path = write(tmp_path / "a.parquet", image=IMAGES, caption=TEXTS)
    write(tmp_path / "b.parquet", image=IMAGES, caption=TEXTS)
    before = opened(tmp_path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(PoolError, match=r"a\.parquet changed after the pool was opened"):
        before.read(0)
    assert opened(tmp_path).fingerprint == before.fingerprint
    write(tmp_path / "a.parquet", image=IMAGES[::-1], caption=TEXTS)
    assert opened(tmp_path).fingerprint != before.fingerprint


def test_a_row_group_that_no_memory_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet", image=IMAGES, caption=TEXTS)
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 10)
    with pytest.raises(PoolError, match=r"a.parquet: row group 0 takes .* write the file anew"):
        opened(tmp_path)


def test_a_repository_in_the_hubs_cache_is_its_newest_state(tmp_path: Path) -> None:
    """As huggingface_hub keeps it: snapshots of links to files that are called by their hashes."""
    blobs, home = tmp_path / "hub" / "blobs", tmp_path / "hub"
    for revision, images in (("old", IMAGES[:3]), ("new", IMAGES)):
        write(blobs / f"{revision}.parquet", image=images, caption=TEXTS[: len(images)])
        link = home / "snapshots" / revision / "data" / "train-00000-of-00001.parquet"
        link.parent.mkdir(parents=True)
        link.symlink_to(blobs / f"{revision}.parquet")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("new")
    assert opened(home).num_samples == 7


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    pytest.importorskip("aiohttp", reason="needs the extra 'remote'")
    with serving(tmp_path) as running:
        yield running


def test_remote_row_groups_are_read_by_one_range_request_each(server: RangeServer) -> None:
    as_parquet(server.folder / "d", make_pairs(100), rows=10)
    names = f"{server.address}/d/train-{{00000..00001}}-of-00002.parquet"
    pool, whole = opened(names), opened(server.folder / "d")
    server.requests.clear()
    for i in (3, 4, 9, 17):
        assert np.array_equal(pool.read(i).image, whole.read(i).image)
    sizes = [int(end) - int(start) for _, wanted in server.requests for start, end in [wanted[6:].split("-")]]
    assert len([size for size in sizes if size > 300]) <= 3  # two row groups, and the footer
