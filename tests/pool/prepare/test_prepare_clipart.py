"""The clip art: captions of noisy metadata, and held-out pictures that have no copy in training."""

from __future__ import annotations

import io
from pathlib import Path

import fake_packages as fake
import pytest
from PIL import Image

from benchmark.pool.prepare import clipart as recipe
from benchmark.pool.prepare import emoji as emoji_recipe
from benchmark.pool.prepare import pictures
from benchmark.pool.prepare.dataset import prepare_data_set
from benchmark.pool.prepare.svgmeta import MAX_TEXT, Meta, SvgError, read_meta
from benchmark.pool.samples import PoolError
from benchmark.pool.sources import clipart, emoji, emoji_clipart
from benchmark.pool.sources._prepared import Prepared, open_prepared


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    given, out = tmp_path / "given", tmp_path / "clipart"
    given.mkdir()
    pngs, svgs, links = fake.clipart_files()
    paths = [given / f"openclipart-{kind}_0.18+dfsg-19_all.deb" for kind in ("png", "svg")]
    contents = []
    for path, files, kind in zip(paths, (pngs, svgs), ("png", "svg"), strict=True):
        own = {name: target for name, target in links.items() if name.endswith(kind)}
        fake.write_deb(path, {**files, f"doc/openclipart-{kind}/copyright": b"public domain"}, own)
        again = files[f"openclipart/{kind}/animals/deep.er/thing_0.{kind}"]
        contents.append({**files, f"openclipart/{kind}/unsorted/again.{kind}": again})
    prepare_data_set(fake.pinned(recipe.RECIPE, paths, contents), out, given)
    data = open_prepared("clipart", str(out), clipart.VERSION)
    monkeypatch.setattr(clipart, "EXPECTED", data.num_samples("train"))
    return data


def test_a_picture_and_its_copy_are_on_one_side(prepared: Prepared) -> None:
    train, test = prepared.rows("train"), prepared.rows("test")
    assert len(train) + len(test) == 51
    assert not {row["content"] for row in train} & {row["content"] for row in test}
    assert not {row["caption"] for row in train} & {row["caption"] for row in test}
    parts = {row["path"]: row["part"] for row in train + test}
    assert parts["animals/deep.er/thing_0"] == parts["unsorted/again"]


def test_pairs_have_captions_of_their_own(prepared: Prepared) -> None:
    pairs = clipart.Clipart(root=str(prepared.folder)).pairs()
    assert len(set(pairs.captions)) == len(pairs.captions) == len(pairs.images)
    assert 8 <= len(pairs.images) <= 12  # 0.3 of 20 in each folder, without those of little contrast
    assert not any("series" in caption for caption in pairs.captions)


def test_what_cannot_be_used_is_counted(prepared: Prepared) -> None:
    assert prepared.manifest["skipped"] == {"caption_empty": 1, "svg_damaged": 1, "svg_entities": 1}


def test_classes_are_folders(prepared: Prepared) -> None:
    source = clipart.Clipart(root=str(prepared.folder))
    train, test = source.labelled("train"), source.labelled("test")
    assert {train.class_names[label] for label in test.labels} == {"animals", "food"}
    assert len(train.labels) + len(test.labels) == 50
    own = {row["caption"] for row in prepared.rows("train") if row["folder"] == "food" and row["unique_caption"]}
    assert {template("food") for template in test.templates} == own
    names, of = source.training_pool().sample_classes  # type: ignore[misc]
    assert [names[i] for i in of] == [row["folder"].replace("_", " ") for row in prepared.rows("train")]
    with pytest.raises(PoolError, match="no split"):
        source.labelled("val")


def test_pictures_are_whole_in_a_white_square_without_their_margins(prepared: Prepared) -> None:
    image = clipart.Clipart(root=str(prepared.folder)).training_pool().read(0).image
    assert (image.mode, image.size) == ("RGB", (128, 128))
    white = (255, 255, 255)
    assert (image.getpixel((64, 2)), image.getpixel((64, 126))) == (white, white)  # twice as wide as high
    assert image.getpixel((1, 64)) != white


def test_a_page_with_nothing_drawn_is_kept_and_has_no_contrast() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (9, 5), (0, 0, 0, 0)).save(buffer, "PNG")
    image = pictures.without_margins(buffer.getvalue())
    assert image.size == (9, 5)
    assert pictures.contrast_of(image) == 0


def test_the_caption_is_title_and_keywords_without_artefacts() -> None:
    words = ("flag", "", "hash(0x862bbb8)", "HASH", "0x8b754fc", "unsorted", "flag", "Norway")
    assert recipe.caption(Meta("Norway", "", words)) == "Norway, flag"
    assert recipe.caption(Meta("", "", ("dog", "animal"))) == "dog, animal"


def test_metadata_is_read_from_the_work_alone() -> None:
    meta = read_meta(fake.svg("  A\n dog ", "animal", "", about="it barks &amp; bites"))
    assert meta == Meta("A dog", "it barks & bites", ("animal",))
    assert read_meta(b"<svg/>") == Meta("", "", ())
    assert len(read_meta(fake.svg("x" * 10 * MAX_TEXT)).title) == MAX_TEXT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'<!DOCTYPE s [<!ENTITY a "b"><!ENTITY c "&a;&a;&a;">]><s>&c;</s>', "svg_entities"),
        (b'<!DOCTYPE s [<!ENTITY a SYSTEM "file:///etc/hostname">]><s>&a;</s>', "svg_entities"),
        (b'<!DOCTYPE s [<!ENTITY % p "x">]><s/>', "svg_entities"),
        (b"<s>", "svg_damaged"),
        (b"", "svg_damaged"),
        (b"<s>&unknown;</s>", "svg_damaged"),
        (b"\xff\xfe\x00", "svg_damaged"),
    ],
)
def test_entities_and_damaged_files_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(SvgError) as caught:
        read_meta(data)
    assert caught.value.reason == reason


def test_emoji_and_clip_art_make_one_pool(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, out = tmp_path / "npm", tmp_path / "emoji"
    given.mkdir()
    files = [fake.emoji_files("google", 0), fake.emoji_files("twitter", 1000)]
    paths = [given / f"emoji-datasource-{vendor}-16.0.0.tgz" for vendor in ("google", "twitter")]
    for path, content in zip(paths, files, strict=True):
        fake.write_tgz(path, content)
    prepare_data_set(fake.pinned(emoji_recipe.RECIPE, paths, files), out, given)
    count = open_prepared("emoji", str(out), emoji.VERSION).num_samples("train")
    monkeypatch.setitem(emoji.EXPECTED, "names", count)
    source = emoji_clipart.EmojiClipart(emoji_root=str(out), clipart_root=str(prepared.folder))
    pool = source.training_pool()
    assert pool.num_samples == source.expected_samples() == count + prepared.num_samples("train")
    assert pool.source_counts() == {"emoji": count, "clipart": prepared.num_samples("train")}
    assert (source.label, pool.source_of(count - 1), pool.source_of(count)) == (
        "emoji-clipart",
        "emoji",
        "clipart",
    )
    names, of = pool.sample_classes  # type: ignore[misc]
    table = open_prepared("emoji", str(out), emoji.VERSION).rows("train") + prepared.rows("train")
    for sample_id, row in enumerate(table):
        own = f"emoji: {row['category'].lower()}" if sample_id < count else f"clipart: {row['folder']}"
        assert names[of[sample_id]].replace("_", " ") == own.replace("-", " ").replace("_", " ")
