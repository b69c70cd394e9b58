"""Images in files of their own: tables of paths, folders of pairs, COCO's annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pair_files import as_coco, as_csv, as_files, as_json_lines, images_in, make_pairs
from shard_files import number_of_image, png, words

from benchmark.config.run import as_choice
from benchmark.pool.samples import PoolError
from benchmark.pool.source import make_source
from benchmark.pool.sources.coco_captions import CocoCaptions
from benchmark.pool.sources.csv import Csv
from benchmark.pool.sources.files import Files
from benchmark.pool.storage import byteranges, filelist
from benchmark.pool.storage.shards import ShardPool

PAIRS = make_pairs(6)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byteranges, "BACKOFF_SECONDS", (0.0, 0.0, 0.0))


def opened(told: dict[str, Any], **options: Any) -> ShardPool:
    ((name, own),) = told.items()
    pool = make_source(as_choice({name: {**own, **options}}, "pool"), "pool").training_pool()
    assert isinstance(pool, ShardPool)
    return pool


def captions(pool: ShardPool) -> list[str]:
    return [pool.read(i).caption for i in range(pool.num_samples)]


@pytest.mark.parametrize("separator", ["\t", ",", ";", "|"])
def test_the_separator_is_the_one_with_which_the_heading_has_the_columns(tmp_path: Path, separator: str) -> None:
    odd = ['a "quoted" cat, \t; | dog', "two\nlines", "ümlaut", "plain"]
    pairs = [(image, text) for (image, _), text in zip(PAIRS, odd, strict=False)]
    assert captions(opened(as_csv(tmp_path, pairs, separator))) == odd


def test_rows_that_are_no_samples_are_counted(tmp_path: Path) -> None:
    images_in(tmp_path, PAIRS)
    (tmp_path / "empty.png").touch()
    rows = [
        b"filepath,title,note",
        b"00000.png,one,",
        b"00001.png,not \xff text,",
        b"00002.png, ,",
        b"empty.png,two,",
        b"absent.png,three,",
        b",four,",
        b"00003.png,five",
        b"00004.png,six,seven,eight",
        b"00005.png,nine,x",
    ]
    (tmp_path / "p.csv").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(rows))
    pool = Csv(name="x", file=str(tmp_path / "p.csv")).training_pool()
    assert captions(pool) == ["one", "nine"]
    assert pool.skipped == {
        "caption_empty": 1,
        "caption_not_utf8": 1,
        "image_empty": 1,
        "image_missing": 2,
        "row_malformed": 2,
    }
    lines = [{"filepath": "00000.png", "title": ["a", "b"]}, {"filepath": "00001.png"}, {"title": "c"}]
    text = "\n".join([*map(json.dumps, lines), "[1]", "{", ""])
    (tmp_path / "p.jsonl").write_text(text)
    pool = Csv(name="x", file=str(tmp_path / "p.jsonl"), captions="all").training_pool()
    assert captions(pool) == ["a", "b"]
    assert pool.skipped == {"caption_missing": 1, "image_missing": 1, "row_malformed": 2}


def test_a_wrong_column_or_table_is_told_with_what_there_is(tmp_path: Path) -> None:
    told = as_json_lines(tmp_path / "a", PAIRS)["csv"]
    for table, options, said in (
        (told["file"], {}, r"has no column 'filepath' \(it has file_name, text\): say which with image"),
        (told["file"], {"image": "file_name", "caption": "texts"}, "no column 'texts'; did you mean 'text'"),
        (as_csv(tmp_path / "b", PAIRS)["csv"]["file"], {"caption": "titel"}, "did you mean 'title'"),
        (str(tmp_path / "absent.csv"), {}, r"absent.csv is not there|none of 1 shards exists"),
        (str(tmp_path / "noise.parquet"), {}, "noise.parquet cannot be read as a table"),
    ):
        (tmp_path / "noise.parquet").write_bytes(b"noise")
        with pytest.raises(PoolError, match=said):
            Csv(name="x", file=table, **options).training_pool()
    with pytest.raises(PoolError, match=r"image_missing: 6"):
        Csv(name="x", file=told["file"], image="file_name", caption="text").training_pool()  # without its root


def test_an_image_that_changed_is_seen_when_the_pool_is_opened_and_when_it_is_read(tmp_path: Path) -> None:
    told = as_csv(tmp_path, PAIRS)
    before = opened(told)
    first = tmp_path / "images" / "00000.png"
    first.write_bytes(png(5, (16, 16)))
    with pytest.raises(PoolError, match=r"00000\.png changed after the pool was opened"):
        before.read(0)
    after = opened(told)
    assert (number_of_image(after.read(0).image), after.fingerprint == before.fingerprint) == (5, False)
    first.write_bytes(PAIRS[0][0])
    assert opened(told).fingerprint == before.fingerprint
    first.unlink()
    assert opened(told).skipped == {"image_missing": 1}


def test_a_table_is_shards_of_a_thousand_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filelist, "ROWS", 4)
    pool = opened(as_csv(tmp_path, make_pairs(10)))
    assert pool.shard_starts.tolist() == [0, 4, 8, 10]
    assert [number_of_image(pool.read(i).image) for i in range(10)] == [i * 7919 for i in range(10)]


def test_a_folder_of_pairs_counts_what_stands_alone_and_leaves_held_out_folders_out(tmp_path: Path) -> None:
    as_files(tmp_path, PAIRS)
    as_files(tmp_path / "val", PAIRS)
    part = tmp_path / "00000"
    for name in ("alone.png", "alone2.txt", "twice.png", "twice.jpg", "twice.txt", "notes.md", "00000_stats.json"):
        (part / name).write_bytes(png(1))
    (part / "test_of.dots.PNG").write_bytes(png(77))
    (part / "test_of.dots.txt").write_text("one\n\ntwo")
    pool = Files(name="x", root=str(tmp_path)).training_pool()
    assert captions(pool) == [*[text for _, text in PAIRS], "one\n\ntwo"]
    assert pool.key(6) == "test_of.dots"
    assert pool.skipped == {"caption_missing": 1, "image_missing": 1, "member_repeated": 1}
    assert captions(Files(name="x", root=str(tmp_path), captions="all").training_pool())[-2:] == ["one", "two"]
    pairs = Files(name="x", root=str(tmp_path), heldout_root=str(tmp_path / "val")).pairs()
    assert pairs.captions == [text for _, text in PAIRS]


def test_a_copy_of_a_folder_is_the_same_pool_and_a_new_caption_another_one(tmp_path: Path) -> None:
    told, copy = as_files(tmp_path / "a", PAIRS), as_files(tmp_path / "b", PAIRS)
    assert opened(told).fingerprint == opened(copy).fingerprint
    (tmp_path / "b" / "00000" / "00003.txt").write_text(words(1))
    assert opened(told).fingerprint != opened(copy).fingerprint


def test_coco_is_trained_on_with_its_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_coco(tmp_path, PAIRS)
    path = tmp_path / "annotations" / "captions_train2017.json"
    node = json.loads(path.read_text())
    node["annotations"] += [{"image_id": 12, "caption": "more"}, {"image_id": 12, "caption": "still more"}]
    path.write_text(json.dumps(node))
    source = CocoCaptions(root=str(tmp_path), split="train2017")
    source.check_pool()
    pool = source.training_pool()
    assert (pool.num_samples, pool.read(2).further) == (6, ("more", "still more"))
    assert source.label == "coco_captions-train2017-random_captions"
    assert CocoCaptions(root=str(tmp_path), split="train2017", captions="all").training_pool().num_samples == 8
    karpathys = [
        {"filepath": "train2017", "filename": f"{i:05d}.jpg", "split": split, "sentences": [{"raw": words(i)}]}
        for i, split in enumerate(["train", "test", "restval", "val", "train"])
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": karpathys}))
    assert captions(CocoCaptions(root=str(tmp_path), split="karpathy-train").training_pool()) == [
        words(i) for i in (0, 4, 2)
    ]
    with pytest.raises(PoolError, match="is for retrieval: train on split: train2017"):
        CocoCaptions(root=str(tmp_path)).training_pool()
    with pytest.raises(PoolError, match="no held-out pairs"):
        source.pairs()
