"""Which caption of an image: a field of its JSON, other suffixes, one of several a visit, each a sample."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pair_files import Pair, as_parquet, make_pairs
from shard_files import number_of_image, png, write_tar

from benchmark.config.identity import identity_of
from benchmark.config.run import Choice
from benchmark.options import ConfigError
from benchmark.pool.cache import CachedPool
from benchmark.pool.plant import Plant, PlantedPool
from benchmark.pool.samples import Pool
from benchmark.pool.source import make_source
from benchmark.pool.sources.parquet import Parquet
from benchmark.pool.sources.webdataset import WebDataset
from benchmark.pool.storage.shards import ShardPool
from benchmark.training.loader import Loader

SEVERAL = [["a cat", "one cat", "the cat"], ["a dog"], ["a car", "car"], ["a bee", "bee"]]


def write(folder: Path) -> Path:
    """Images with a text of several lines, and JSON with a list, a text of another model and a uid."""
    entries = []
    for i, captions in enumerate(SEVERAL):
        node = {"caption": captions, "caption_llava": f"llava {i}", "uid": f"{i:032x}"}
        entries += [(f"{i}.png", png(i)), (f"{i}.json", json.dumps(node).encode())]
        entries += [
            (f"{i}.txt", "\n".join(captions).encode()),
            (f"{i}.seg.webp", png(9)),
            (f"{i}.cap", b"cap %d" % i),
        ]
    write_tar(folder / "0.tar", entries)
    return folder


def opened(folder: Path, **options: Any) -> ShardPool:
    return WebDataset(name="x", shards=str(folder), **options).training_pool()


def captions(pool: Pool) -> list[tuple[str, ...]]:
    return [(s.caption, *s.further) for s in map(pool.read, range(pool.num_samples))]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [("\n".join(several),) for several in SEVERAL]),
        ({"captions": "random"}, [tuple(several) for several in SEVERAL]),
        ({"captions": "all"}, [(one,) for several in SEVERAL for one in several]),
        ({"json": "caption"}, [(several[0],) for several in SEVERAL]),
        ({"json": "caption", "captions": "random"}, [tuple(several) for several in SEVERAL]),
        ({"json": "caption_llava"}, [(f"llava {i}",) for i in range(4)]),
        ({"json": "caption_llava", "caption_suffix": "json"}, [(f"llava {i}",) for i in range(4)]),
        ({"caption_suffix": "cap"}, [(f"cap {i}",) for i in range(4)]),
    ],
)
def test_the_caption_is_where_the_options_say(
    tmp_path: Path, options: dict[str, Any], expected: list[tuple[str, ...]]
) -> None:
    pool = opened(write(tmp_path), **options)
    assert captions(pool) == expected
    assert [pool.caption(i) for i in range(pool.num_samples)] == [several[0] for several in expected]
    if options.get("captions") == "all":
        assert [number_of_image(pool.read(i).image) for i in range(8)] == [0, 0, 0, 1, 2, 2, 3, 3]


def test_images_of_another_suffix_and_keys_from_the_json(tmp_path: Path) -> None:
    pool = opened(write(tmp_path), image_suffix="seg.webp;seg.jpg", key="uid")
    assert number_of_image(pool.read(2).image) == 9
    assert pool.key(3) == f"{3:032x}"
    with pytest.raises(ConfigError, match="image_suffix must be suffixes"):
        make_source(Choice(name="webdataset", options={"name": "x", "image_suffix": "jpg png"}), "pool")


def test_a_sample_without_the_field_is_counted(tmp_path: Path) -> None:
    entries = [("0.png", png(0)), ("0.json", b'{"caption": "a", "llava": "b", "uid": 7}')]
    entries += [
        ("1.png", png(1)),
        ("1.json", b'{"caption": "a", "uid": 8}'),
        ("2.png", png(2)),
        ("2.txt", b"text"),
    ]
    write_tar(tmp_path / "0.tar", [*entries, ("3.png", png(3)), ("3.json", b'{"llava": ["", 5]}')])
    pool = opened(tmp_path, json="llava", key="uid")
    assert (captions(pool), pool.key(0)) == ([("b",)], "7")
    assert pool.skipped == {"caption_missing": 3}
    assert opened(tmp_path, key="uid").skipped == {"caption_missing": 1, "key_missing": 1}


def test_options_that_change_captions_are_part_of_a_run_and_no_older_run_is_another(tmp_path: Path) -> None:
    names = {
        identity_of({"pool": WebDataset(name="x", **more)}) for more in ({}, {"captions": "first"}, {"json": ""})
    }
    others = [{"captions": "random"}, {"captions": "all"}, {"json": "caption_llava"}, {"caption_suffix": "cap"}]
    assert len(names) == 1
    assert len(names | {identity_of({"pool": WebDataset(name="x", **more)}) for more in others}) == 5
    assert WebDataset(name="x", json="caption_llava", captions="random").label == "x-random_captions-caption_llava"
    assert opened(write(tmp_path)).fingerprint != opened(tmp_path, captions="random").fingerprint


def visits(pool: Pool, epochs: int, **options: Any) -> list[dict[int, str]]:
    """By epoch: id -> the caption that training saw."""
    loader = Loader(pool, lambda s: (s.caption.encode(),), batch_size=2, seed=5, **options)
    found = []
    for epoch in range(epochs):
        _, batches = loader.epoch(epoch, np.ones(pool.num_samples, dtype=bool))
        seen = [(batch.ids.tolist(), batch.tensors[0]) for batch in batches]
        found.append({i: text.decode() for ids, texts in seen for i, text in zip(ids, texts, strict=True)})
    loader.close()
    return found


@pytest.mark.parametrize("wrap", [lambda pool: pool, lambda pool: CachedPool(pool, 10**6)])
def test_a_visit_draws_one_of_all_captions_by_seed_epoch_and_id(
    tmp_path: Path, wrap: Callable[[ShardPool], Pool]
) -> None:
    pool = wrap(opened(write(tmp_path), captions="random"))
    seen = visits(pool, 60)
    assert seen == visits(pool, 60)
    for i, several in enumerate(SEVERAL):
        counts = Counter(epoch[i] for epoch in seen)
        assert set(counts) == set(several)
        assert min(counts.values()) > 60 / len(several) / 3
    assert seen[:3] == visits(pool, 3, num_workers=1, decoder="torchvision")


def test_parquet_lists_are_drawn_from_as_tars_are_and_planted_copies_keep_theirs(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [png(i) for i in range(4)], "caption": SEVERAL}), tmp_path / "a.parquet")
    pool = Parquet(name="x", files=str(tmp_path), captions="random").training_pool()
    assert visits(pool, 8) == visits(opened(write(tmp_path / "tar"), captions="random"), 8)
    planted = PlantedPool(pool, Plant(near_duplicates=0.5))
    assert {captions(planted)[i] for i in range(4)} <= {tuple(several) for several in SEVERAL}


def test_held_out_images_have_all_captions_of_their_list(tmp_path: Path) -> None:
    pairs: list[Pair] = make_pairs(4)
    as_parquet(tmp_path / "train", pairs)
    double = [pairs[0], (pairs[0][0], "another of the same picture"), pairs[1]]
    as_parquet(tmp_path / "held", double)
    found = Parquet(name="x", files=str(tmp_path / "train"), heldout_files=str(tmp_path / "held")).pairs()
    assert found.captions == [text for _, text in double]
    assert found.image_of_caption.tolist() == [0, 0, 1]
