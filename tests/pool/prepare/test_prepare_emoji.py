"""The emoji: a held-out name is in training under no vendor, skin tone or copy."""

from __future__ import annotations

import pickle
from pathlib import Path

import fake_packages as fake
import numpy as np
import pytest

from benchmark.config.run import Choice
from benchmark.options import ConfigError
from benchmark.pool.prepare import emoji as recipe
from benchmark.pool.prepare.dataset import prepare_data_set
from benchmark.pool.samples import PoolError
from benchmark.pool.source import make_source
from benchmark.pool.sources import _emoji_classes, emoji
from benchmark.pool.sources._prepared import open_prepared


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return prepare(tmp_path, monkeypatch, fake.emoji_files("google", 0), fake.emoji_files("twitter", 1000))


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch, *contents: dict[str, bytes]) -> Path:
    given, out = folder / "given", folder / "emoji"
    given.mkdir(parents=True)
    paths = [given / f"emoji-datasource-{vendor}-16.0.0.tgz" for vendor in ("google", "twitter")]
    for path, files in zip(paths, contents, strict=True):
        fake.write_tgz(path, files)
    prepare_data_set(fake.pinned(recipe.RECIPE, paths, contents), out, given)
    counts = open_prepared("emoji", str(out), emoji.VERSION)
    for split, parts in emoji.TRAINING.items():
        monkeypatch.setitem(emoji.EXPECTED, split, counts.num_samples(*parts))
    monkeypatch.setattr(_emoji_classes, "LEAST_NAMES", 1)
    return out


def test_a_name_its_skin_tones_and_its_copies_are_on_one_side(prepared: Path) -> None:
    data = open_prepared("emoji", str(prepared), emoji.VERSION)
    train, held = data.rows("train"), data.rows("seen", "test")
    assert len(train) + len(held) == 2 * 41
    for mark in ("name", "content", "caption"):
        assert not {row[mark] for row in train} & {row[mark] for row in held}
    sides = {row["name"]: part for part, rows in (("train", train), ("held", held)) for row in rows}
    assert sides["copy"] == sides["thing 2"]
    assert 6 <= len({row["name"] for row in held}) <= 9  # a fifth of 40, give or take the copies


def test_split_images_trains_on_held_out_names_but_not_on_the_second_vendors_pictures(prepared: Path) -> None:
    source = emoji.Emoji(root=str(prepared), split="images")
    pool = source.training_pool()
    test = source._open().rows("test")
    assert pool.num_samples == source.expected_samples() > emoji.EXPECTED["names"]
    captions = {pool.read(i).caption for i in range(pool.num_samples)}
    assert {row["name"] for row in test} <= captions
    assert {row["vendor"] for row in test} == {"twitter"}
    contents = {row["content"] for row in source._open().rows("train", "seen")}
    assert not contents & {row["content"] for row in test}


def test_ids_of_the_pool_are_those_of_the_table(prepared: Path) -> None:
    source = emoji.Emoji(root=str(prepared), split="images")
    pool, rows = source.training_pool(), source._open().rows("train", "seen")
    for sample_id, row in enumerate(rows):
        assert (pool.key(sample_id), pool.read(sample_id).caption) == (row["key"], row["caption"])
    names, of = pool.sample_classes  # type: ignore[misc]
    assert [names[i] for i in of] == [_emoji_classes.label_of(row, "category") for row in rows]
    again = pickle.loads(pickle.dumps(pool))  # noqa: S301
    assert again.read(5).image.tobytes() == pool.read(5).image.tobytes()


def test_pairs_have_a_caption_and_a_picture_of_their_own(prepared: Path) -> None:
    pairs = emoji.Emoji(root=str(prepared)).pairs()
    assert len(set(pairs.captions)) == len(pairs.captions) == len(pairs.images)
    assert len({image.tobytes() for image in pairs.images}) == len(pairs.images)
    assert "copy" not in pairs.captions
    same = emoji.Emoji(root=str(prepared), split="images").pairs()
    assert same.captions == pairs.captions


def test_pairs_of_both_vendors_are_a_caption_and_two_pictures(prepared: Path) -> None:
    source = emoji.Emoji(root=str(prepared), vendors="both")
    pairs, second = source.pairs(), emoji.Emoji(root=str(prepared)).pairs()
    assert (pairs.name, second.name) == ("emoji-both", "emoji")
    assert set(pairs.captions) == set(second.captions)  # in this data nothing is ambiguous in one vendor alone
    assert pairs.image_group is not None
    assert pairs.image_group.tolist() == [i for i in range(len(second.images)) for _ in range(2)]
    assert pairs.image_group[pairs.image_of_caption].tolist() == list(range(len(pairs.captions)))
    theirs = {c: image.tobytes() for c, image in zip(second.captions, second.images, strict=True)}
    assert [image.tobytes() for image in pairs.images][1::2] == [theirs[caption] for caption in pairs.captions]
    assert len({image.tobytes() for image in pairs.images}) == 2 * len(theirs)
    assert source.label == "emoji"
    assert source.training_pool().fingerprint == emoji.Emoji(root=str(prepared)).training_pool().fingerprint
    trained = {source.training_pool().read(i).image.tobytes() for i in range(source.expected_samples())}
    assert not trained & {image.tobytes() for image in pairs.images}


def test_of_both_vendors_the_same_picture_is_one_image_and_what_one_blurs_is_left_out(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = emoji.Emoji(root=str(prepared), vendors="both").pairs().captions
    same, blurred, other, *clear = captions
    google, twitter = fake.emoji_files("google", 0), fake.emoji_files("twitter", 1000)

    def file(vendor: str, caption: str) -> str:
        return f"img/{vendor}/64/{int(caption.split()[1]):04x}.png"

    twitter[file("twitter", same)] = google[file("google", same)]
    google[file("google", blurred)] = google[file("google", other)]  # the second vendor tells the two apart
    root = str(prepare(tmp_path / "changed", monkeypatch, google, twitter))
    pairs = emoji.Emoji(root=root, vendors="both").pairs()
    assert {same, *clear} <= set(pairs.captions)
    assert not {blurred, other} & set(pairs.captions)
    assert pairs.image_group is not None
    counts = dict(zip(pairs.captions, np.bincount(pairs.image_group).tolist(), strict=True))
    assert counts == {**dict.fromkeys(pairs.captions, 2), same: 1}
    assert {blurred, other} <= set(emoji.Emoji(root=root).pairs().captions)


def test_a_category_is_prompted_by_names_of_training_members_alone(prepared: Path) -> None:
    source = emoji.Emoji(root=str(prepared), classes="category")
    test = source.labelled("test")
    assert test.class_names == ["flags", "food"]
    known = {row["name"]: row["category"].lower() for row in source._open().rows("train")}
    for name in test.class_names:
        said = {template(name) for template in test.templates}
        assert said == {member for member, category in known.items() if category == name}
    assert pickle.loads(pickle.dumps(test.templates))[0]("food") == test.templates[0]("food")  # noqa: S301


def test_labelled_splits_have_the_same_classes_and_no_skin_tones(prepared: Path) -> None:
    for kind in ("category", "subcategory"):
        source = emoji.Emoji(root=str(prepared), classes=kind)
        train, test = source.labelled("train"), source.labelled("test")
        assert train.class_names == test.class_names
        assert len(train.images) == len(train.labels)
        assert set(test.labels) <= set(np.arange(len(test.class_names)))
        assert kind == "subcategory" or len(train.labels) + len(test.labels) == 80
    named = emoji.Emoji(root=str(prepared), classes="name", split="images")
    assert len(named.labelled("test").class_names) == 40
    assert len(named.labelled("train").labels) > len(named.labelled("test").labels)


def test_name_classes_without_training_images_are_refused(prepared: Path) -> None:
    with pytest.raises(PoolError, match="split: images"):
        emoji.Emoji(root=str(prepared), classes="name").labelled("train")


def test_captions_tell_skin_tones() -> None:
    assert recipe.caption("WAVING HAND", "") == "waving hand"
    assert recipe.caption("WAVING HAND", "1F3FD") == "waving hand, medium skin tone"
    assert recipe.caption("HANDS", "1F3FB-1F3FF") == "hands, light and dark skin tones"
    assert recipe.caption("HANDS", "1F3FB-1F3FB") == "hands, light skin tone"


def test_wrong_options_fail_before_any_data_is_read() -> None:
    with pytest.raises(ConfigError, match="did you mean 'images'"):
        make_source(Choice(name="emoji", options={"split": "image"}), "pool")
    with pytest.raises(ConfigError, match="vendors: both needs split: names"):
        make_source(Choice(name="emoji", options={"split": "images", "vendors": "both"}), "pool")
    with pytest.raises(PoolError, match=r"benchmark\.pool prepare emoji --out nowhere"):
        emoji.Emoji(root="nowhere").training_pool()
    assert (emoji.Emoji().label, emoji.Emoji(split="images", classes="name").label) == ("emoji", "emoji-images")
