"""The webdataset source: options, what is said when data is absent or short, and held-out pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
from shard_files import number_of_image, png, sample, words, write_shards, write_tar

from benchmark.config.identity import identity_of
from benchmark.config.run import Choice
from benchmark.options import ConfigError
from benchmark.pool.samples import PoolError
from benchmark.pool.source import PairSet, make_source
from benchmark.pool.sources.webdataset import WebDataset


def test_the_default_place_is_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_BENCH_DATA", str(tmp_path))
    write_shards(tmp_path / "cc12m_plus" / "cc12m", [2])
    write_shards(tmp_path / "cc12m_plus" / "sbu", [1])
    source = make_source(Choice(name="webdataset", options={"name": "cc12m_plus"}), "pool")
    assert (source.label, source.expected_samples()) == ("cc12m_plus", None)
    pool = source.training_pool()
    assert [pool.source_of(i) for i in range(pool.num_samples)] == ["cc12m", "cc12m", "sbu"]


def test_fewer_samples_than_declared_are_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_shards(tmp_path, [3])
    source = WebDataset(name="cc3m", shards=str(tmp_path), num_samples=4)
    assert source.expected_samples() == 4
    assert source.training_pool().num_samples == 3
    assert "cc3m holds 3 samples, 75.0 % of the 4" in caplog.text


def test_absent_data_is_one_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_BENCH_DATA", str(tmp_path))
    source = WebDataset(name="cc3m", num_samples=2_683_008)
    with pytest.raises(
        PoolError, match=rf"cc3m: no shards match {tmp_path}/cc3m/\*\*/\*\.tar.*benchmark\.pool inspect"
    ):
        source.training_pool()


def test_paths_and_the_declared_size_are_no_part_of_a_runs_identity(tmp_path: Path) -> None:
    plain = identity_of({"pool": WebDataset(name="cc3m")})
    assert plain == identity_of({"pool": WebDataset(name="cc3m", shards="/x/*.tar", num_samples=3)})
    assert plain != identity_of({"pool": WebDataset(name="cc12m")})


@pytest.mark.parametrize("options", [{}, {"name": "a/b"}, {"name": ""}, {"name": "x", "num_samples": 0}])
def test_wrong_options_are_config_errors(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"pool\.webdataset"):
        make_source(Choice(name="webdataset", options=options), "pool")


def test_pairs_come_from_shards_apart_and_without_damaged_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_shards(tmp_path / "train", [2])
    broken = [("bad.png", b"no image"), ("bad.txt", b"a page")]
    write_tar(tmp_path / "held" / "0.tar", [*sample(7), *broken, *sample(9)])
    pairs = WebDataset(name="x", shards=str(tmp_path / "train"), heldout_shards=str(tmp_path / "held")).pairs()
    assert (pairs.name, pairs.captions) == ("x-heldout", [words(7), words(9)])
    assert pairs.image_of_caption.tolist() == [0, 1]
    assert [number_of_image(image) for image in pairs.images] == [7, 9]
    assert [number_of_image(image) for image in pairs.images[1:]] == [9]
    assert number_of_image(pairs.images[-1]) == 9
    assert "bad" in caplog.text
    both = WebDataset(name="x", shards=str(tmp_path), heldout_shards=str(tmp_path / "held"))
    with pytest.raises(PoolError, match=r"0\.tar is both in shards and in heldout_shards"):
        both.pairs()
    with pytest.raises(PoolError, match="no held-out pairs"):
        WebDataset(name="x", shards=str(tmp_path / "train")).pairs()
    with pytest.raises(PoolError, match="no labelled test split"):
        WebDataset(name="x", shards=str(tmp_path / "train")).labelled("test")


def several(tmp_path: Path, captions: str) -> PairSet:
    return WebDataset(
        name="x", shards=str(tmp_path / "none"), heldout_shards=str(tmp_path / "held"), heldout_captions=captions
    ).pairs()


def test_a_text_of_lines_is_several_captions_as_clip_benchmark_writes_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    five = [("0.png", png(3)), ("0.txt", b"one\ntwo\n\nthree, still three\nfour\nfive")]
    write_tar(tmp_path / "held" / "0.tar", [*five, ("1.png", png(4)), ("1.txt", b"single")])
    pairs = several(tmp_path, "lines")
    assert [number_of_image(image) for image in pairs.images] == [3, 4]
    assert pairs.captions == ["one", "two", "three, still three", "four", "five", "single"]
    assert pairs.image_of_caption.tolist() == [0, 0, 0, 0, 0, 1]
    assert not caplog.text
    assert several(tmp_path, "one").captions == ["one\ntwo\n\nthree, still three\nfour\nfive", "single"]
    assert "1 of 2 held-out texts have several lines" in caplog.text
    assert "say heldout_captions: lines" in caplog.text


def test_copies_of_an_image_are_merged_as_img2dataset_leaves_coco(tmp_path: Path) -> None:
    order = [3, 4, 3, 5, 4, 3]
    entries = [e for i, n in enumerate(order) for e in ((f"{i}.png", png(n)), (f"{i}.txt", f"c{i}".encode()))]
    write_tar(tmp_path / "held" / "0.tar", entries[:6])
    write_tar(tmp_path / "held" / "1.tar", entries[6:])
    pairs = several(tmp_path, "merge")
    assert [number_of_image(image) for image in pairs.images] == [3, 4, 5]
    assert pairs.captions == [f"c{i}" for i in range(6)]
    assert pairs.image_of_caption.tolist() == [0, 1, 0, 2, 1, 0]
    assert len(several(tmp_path, "one").images) == 6
    assert several(tmp_path, "one").fingerprint != pairs.fingerprint != ""


def test_one_caption_an_image_is_what_older_runs_did() -> None:
    plain = identity_of({"dataset": WebDataset(name="x")})
    assert plain == identity_of({"dataset": WebDataset(name="x", heldout_captions="one")})
    assert plain != identity_of({"dataset": WebDataset(name="x", heldout_captions="merge")})
    with pytest.raises(ConfigError, match="did you mean 'merge'"):
        make_source(Choice(name="webdataset", options={"name": "x", "heldout_captions": "merged"}), "dataset")
