"""Data sets in clip_benchmark's shards: read whole, from disk or by ranges, or refused with the member's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from published_sets import CLASSES, array, labelled, member, picture, write_set
from range_server import serving
from shard_files import write_tar

from benchmark.config.run import Choice
from benchmark.options import ConfigError
from benchmark.pool.samples import PoolError, SampleError
from benchmark.pool.source import make_source
from benchmark.pool.sources.clip_benchmark import ClipBenchmark
from benchmark.pool.storage import byteranges
from benchmark.pool.storage.decode import image_from


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SCAN_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(byteranges, "BACKOFF_SECONDS", ())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Three images and two more, in two shards, and a train split of one."""
    home = write_set(
        tmp_path / "data/clip_benchmark/wds_vtab-pets", [labelled([3, 0, 1]), labelled([2, 2], first=3)]
    )
    return write_set(home, [labelled([1], first=9)], split="train")


def test_a_set_is_read_with_names_prompts_and_both_splits(home: Path) -> None:
    source = ClipBenchmark(name="vtab/pets")
    test = source.test_set()
    assert (test.name, test.labels.tolist(), test.class_names) == (
        "clip_benchmark-vtab-pets",
        [3, 0, 1, 2, 2],
        CLASSES,
    )
    assert [image.tobytes() for image in test.images] == [image_from(picture(i)).tobytes() for i in range(5)]
    # prompts are texts, never formats: nothing but {c} is filled in
    assert [t("dog") for t in test.templates] == ["a photo of a dog.", "dog in dog {0.__class__}"]
    assert source.train_set().labels.tolist() == [1]


@pytest.mark.parametrize("place", ["wds_vtab-pets_test", "wds_vtab-pets", "vtab/pets", "."])
def test_a_set_is_found_under_the_names_it_is_published_with(tmp_path: Path, place: str) -> None:
    write_set(tmp_path / "sets" / place, [labelled([2])])
    assert ClipBenchmark(name="vtab/pets", root=str(tmp_path / "sets")).labelled("test").labels.tolist() == [2]


def test_a_root_may_hold_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "x-vtab-pets", [labelled([2])])
    monkeypatch.setenv("SCAN_BENCH_CLIP_BENCHMARK", f"{tmp_path}/x-{{dataset_cleaned}}")
    assert ClipBenchmark(name="vtab/pets").labelled("test").labels.tolist() == [2]
    with pytest.raises(PoolError, match=r"no test/nshards.txt in .*x-mnist \(set root"):
        ClipBenchmark(name="mnist").labelled("test")


def test_shards_are_scanned_once_and_again_when_one_changed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ClipBenchmark(name="vtab/pets")
    before = source.labelled("test").fingerprint
    with monkeypatch.context() as patch:
        patch.setattr("benchmark.pool.storage.labelled_shards._scan", lambda name: pytest.fail("scanned again"))
        assert source.labelled("test").fingerprint == before
    write_tar(home / "test/1.tar", labelled([1, 2], first=3))
    after = source.labelled("test")
    assert after.labels.tolist() == [3, 0, 1, 1, 2]
    assert after.fingerprint != before


def test_a_set_at_an_address_is_read_by_ranges(home: Path) -> None:
    pytest.importorskip("aiohttp", reason="needs the extra 'remote'")
    with serving(home.parent) as server:
        test = ClipBenchmark(name="vtab/pets", root=f"{server.address}/wds_{{dataset_cleaned}}").labelled("test")
        server.requests.clear()
        assert test.images[4].tobytes() == image_from(picture(4)).tobytes()
        assert [(method, wanted[:6]) for method, wanted in server.requests] == [("GET", "bytes=")]
    local = ClipBenchmark(name="vtab/pets").labelled("test")
    assert (test.labels.tolist(), test.class_names) == (local.labels.tolist(), local.class_names)
    assert test.fingerprint == local.fingerprint


def test_captions_stand_a_line_each(tmp_path: Path) -> None:
    entries = [e for i, text in enumerate(("a cat\na pet\n", "dog")) for e in member(i, txt=text.encode())]
    write_set(tmp_path / "flickr30k", [entries], kind="retrieval")
    source = ClipBenchmark(name="flickr30k", root=str(tmp_path))
    pairs = source.pairs()
    assert (pairs.captions, pairs.image_of_caption.tolist()) == (["a cat", "a pet", "dog"], [0, 0, 1])
    with pytest.raises(PoolError, match=r"dataset_type.txt says that it holds captions"):
        source.labelled("test")


def test_several_classes_an_image_are_not_for_probes(tmp_path: Path) -> None:
    entries = [entry for i in range(2) for entry in member(i, npy=array([i, 1, 0, 1]))]
    write_set(tmp_path, [entries], kind="multilabel")
    source = ClipBenchmark(name="voc2007_multilabel", root=str(tmp_path))
    np.testing.assert_array_equal(source.labelled("test").labels, [[0, 1, 0, 1], [1, 1, 0, 1]])
    with pytest.raises(PoolError, match="zero_shot alone"):
        source.test_set()


def test_groups_come_from_the_vector_beside_an_image(tmp_path: Path) -> None:
    entries = [entry for i in range(3) for entry in member(i, cls=b"1", npy=array([i % 2, 7]))]
    write_set(tmp_path, [entries])
    test = ClipBenchmark(name="geode", root=str(tmp_path)).labelled("test")
    assert (test.metrics, test.groups["region"].tolist()) == (("top1_worst_region",), [0, 1, 0])
    write_set(tmp_path, [[*member(0, cls=b"1", npy=array([np.nan]))]])
    with pytest.raises(PoolError, match=r"s0000000.npy in .*0.tar: no group"):
        ClipBenchmark(name="geode", root=str(tmp_path)).labelled("test")


def drop(name: str) -> Callable[[Path], None]:
    return lambda home: (home / name).unlink()


def put(name: str, text: str) -> Callable[[Path], None]:
    return lambda home: (home / name).write_text(text)  # type: ignore[func-returns-value]


def shard(*entries: tuple[str, bytes]) -> Callable[[Path], None]:
    return lambda home: write_tar(home / "test/1.tar", entries)  # type: ignore[func-returns-value]


def cut(home: Path) -> None:
    path = home / "test/1.tar"
    path.write_bytes(path.read_bytes()[:700])


PROMPTS = "zeroshot_classification_templates.txt"
WRONG = {
    "no integer": (shard(*member(3, cls=b"cat")), r"s0000003.cls in \S+/test/1.tar: 'cat' is no class index"),
    "negative": (shard(*member(3, cls=b"-1")), r"s0000003.cls in .*'-1' is no class index"),
    "out of range": (shard(*member(3, cls=b"4")), r"s0000003.cls in .*class 4, but \S+classnames.txt has 4 lines"),
    "empty": (shard(*member(3, cls=b"")), r"s0000003.cls in \S+1.tar is missing or empty"),
    "no class": (shard(*member(3)), r"s0000003.cls in \S+1.tar is missing or empty"),
    "long": (shard(*member(3, cls=b"1" * 70_000)), r"s0000003.cls in \S+1.tar: 70000 bytes, more than"),
    "no image": (shard(("s3.cls", b"1")), r"s3 in \S+1.tar has .cls and no image"),
    "two images": (shard(*member(3, cls=b"1"), ("s0000003.png", b"x")), r"s0000003 in \S+ has several members"),
    "cut": (cut, r"1.tar ends .*: cut short; get it again"),
    "too few shards": (drop("test/1.tar"), r"test/1.tar is not there, one of 2 shards"),
    "too many shards": (put("test/nshards.txt", "1"), r"nshards.txt says 1 shards, but there is a 1.tar too"),
    "no count": (put("test/nshards.txt", "two"), r"nshards.txt: expected the number of shards, got 'two'"),
    "no shards": (put("test/nshards.txt", "0"), r"nshards.txt: expected the number of shards, got '0'"),
    "no names": (drop("classnames.txt"), r"classnames.txt is not there: it holds the name of each class"),
    "empty name": (put("classnames.txt", "a\n\nb\nc\n"), r"classnames.txt: line 2 is empty"),
    "no prompts": (drop(PROMPTS), rf"{PROMPTS} is not there: it holds prompts"),
    "prompt for all": (put(PROMPTS, "a {c}\na photo\n"), rf"{PROMPTS}: line 2 has no {{c}}"),
    "kind": (put("dataset_type.txt", "boxes"), r"dataset_type.txt: 'boxes' is none of"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(home: Path, name: str) -> None:
    spoil, message = WRONG[name]
    spoil(home)
    with pytest.raises(PoolError, match=message):
        ClipBenchmark(name="vtab/pets").labelled("test")


def test_pickled_members_are_not_loaded(tmp_path: Path) -> None:
    evil = array([0.0]).replace(b"'<f8'", b"'|O'  ")
    write_set(tmp_path, [member(0, npy=evil)], kind="multilabel", classes=1)
    with pytest.raises(PoolError, match=r"s0000000.npy in \S+0.tar is no array of numbers"):
        ClipBenchmark(name="voc2007_multilabel", root=str(tmp_path)).labelled("test")


def test_an_image_that_cannot_be_decoded_is_named_when_it_is_read(home: Path) -> None:
    write_tar(home / "test/1.tar", [("s3.cls", b"1"), ("s3.webp", b"RIFF no picture")])
    images = ClipBenchmark(name="vtab/pets").labelled("test").images
    with pytest.raises(SampleError, match=r"s3.image in \S+1.tar: image_undecodable"):
        images[3]


def test_a_name_is_no_way_out_of_the_root() -> None:
    with pytest.raises(ConfigError, match="name must be a name such as vtab/pets"):
        make_source(Choice(name="clip_benchmark", options={"name": "../other"}), "source")
