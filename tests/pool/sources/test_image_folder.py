"""Any folder of images: a pool, labelled splits, names and prompts from files, what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from picture_files import number_of, write_picture

from benchmark.config.identity import identity_of
from benchmark.config.run import Choice
from benchmark.options import ConfigError
from benchmark.pool.samples import PoolError
from benchmark.pool.source import make_source
from benchmark.pool.sources.image_folder import ImageFolder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path / "cache"))
    for number, place in enumerate(
        ["train/big_cat/a", "train/big_cat/b", "train/dog/c", "val/big_cat/d", "val/dog/e"]
    ):
        write_picture(tmp_path / "pets" / f"{place}.jpg", number)
    return tmp_path / "pets"


def test_the_pool_is_the_train_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SCAN_BENCH_DATA", str(root.parent))
    source = make_source(Choice(name="image_folder", options={"name": "pets", "num_samples": 4}), "pool")
    assert (source.label, source.expected_samples()) == ("pets", 4)
    pool = source.training_pool()
    assert [(pool.key(i), number_of(pool.read(i).image)) for i in range(pool.num_samples)] == [
        ("big_cat/a.jpg", 0),
        ("big_cat/b.jpg", 1),
        ("dog/c.jpg", 2),
    ]
    assert "holds 3 training images, not 4" in caplog.text
    names, of = pool.sample_classes
    assert (names, of.tolist()) == (["big_cat", "dog"], [0, 0, 1])


def test_classes_are_called_as_their_folders_and_prompted_as_imagenet(root: Path) -> None:
    source = ImageFolder(name="pets", root=str(root))
    train, test = source.labelled("train"), source.labelled("test")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 0, 1], [0, 1])
    assert [number_of(image) for image in test.images] == [3, 4]
    assert test.class_names == train.class_names == ["big cat", "dog"]
    assert (len(test.templates), test.name) == (80, "pets")
    assert "" != train.fingerprint != test.fingerprint != ""


def test_test_goes_before_val(root: Path) -> None:
    for name in ("big_cat", "dog"):
        write_picture(root / "test" / name / "f.png", 9)
    assert [number_of(i) for i in ImageFolder(name="pets", root=str(root)).labelled("test").images] == [9, 9]


def test_names_and_prompts_come_from_files(root: Path) -> None:
    source = ImageFolder(name="pets", root=str(root), templates="pets")
    assert source.labelled("test").templates[0]("cat") == "a photo of a cat, a type of pet."
    (root / "classnames.txt").write_text("tiger\nhound\n")
    (root / "zeroshot_classification_templates.txt").write_text("my {c}\n\n{c}?\n")
    before = ImageFolder(name="pets", root=str(root)).labelled("test")
    assert before.class_names == ["tiger", "hound"]
    assert [template("tiger") for template in before.templates] == ["my tiger", "tiger?"]
    (root / "classnames.json").write_text(json.dumps({"dog": "hound", "big_cat": "lion", "more": "is fine"}))
    with pytest.raises(PoolError, match="both there: remove one"):
        source.labelled("test")
    (root / "classnames.txt").unlink()
    after = source.labelled("test")
    assert after.class_names == ["lion", "hound"]
    assert after.fingerprint != before.fingerprint


def test_names_that_do_not_go_with_their_folders_are_refused(root: Path) -> None:
    source, names = ImageFolder(name="pets", root=str(root)), root / "classnames.txt"
    names.write_text("Dog\nbig-cat\n")
    with pytest.raises(
        PoolError, match=r"txt: line 1, 'Dog', stands for the folder 'big_cat', but is the name of"
    ):
        source.labelled("test")
    names.write_text("big cat\nhound\n")
    assert source.labelled("test").class_names == ["big cat", "hound"]
    (root / "train").rename(root / "elsewhere")
    for place, wnid in (("big_cat", "n01440764"), ("dog", "n01514859")):
        (root / "val" / place).rename(root / "val" / wnid)
    names.write_text("hen\ntench\n")
    with pytest.raises(
        PoolError, match=r"'hen', stands for the folder 'n01440764', but is the name .* 'n01514859'"
    ):
        source.labelled("test")
    names.write_text("tench\nhen\n")
    assert source.labelled("test").class_names == ["tench", "hen"]


@pytest.mark.parametrize(("folders", "is_told"), [(("2", "10"), False), (("02", "10"), True), (("0", "1"), True)])
def test_names_of_numbered_folders_need_one_order(folders: tuple[str, str], is_told: bool, root: Path) -> None:
    (root / "train").rename(root / "elsewhere")
    for old, new in zip(("big_cat", "dog"), folders, strict=True):
        (root / "val" / old).rename(root / "val" / new)
    (root / "classnames.txt").write_text("tiger\nhound\n")
    source = ImageFolder(name="pets", root=str(root))
    if is_told:
        assert source.labelled("test").class_names == ["tiger", "hound"]
    else:
        with pytest.raises(PoolError, match=r"sorted as text, '10' before '2', .* write .*classnames\.json"):
            source.labelled("test")


def test_what_is_wrong_is_said(root: Path) -> None:
    source = ImageFolder(name="pets", root=str(root))
    (root / "classnames.txt").write_text("tiger\n")
    with pytest.raises(PoolError, match=r"classnames\.txt has 1 names, .* has 2 classes"):
        source.labelled("test")
    (root / "classnames.txt").unlink()
    (root / "classnames.json").write_text('{"dog": "hound"}')
    with pytest.raises(PoolError, match=r"must map every class folder to a name: KeyError: 'big_cat'"):
        source.labelled("test")
    (root / "classnames.json").unlink()
    (root / "zeroshot_classification_templates.txt").write_text("a photo\n")
    with pytest.raises(PoolError, match=r"every line must hold \{c\}"):
        source.labelled("test")
    (root / "val" / "dog").rename(root / "val" / "hound")
    with pytest.raises(PoolError, match=r"differ in their class folders, as in 'dog'"):
        source.labelled("test")
    with pytest.raises(PoolError, match=r"expected .*/none/train with one folder a class"):
        ImageFolder(name="none", root=str(root / "none")).training_pool()
    with pytest.raises(PoolError, match="no split 'val'"):
        source.labelled("val")


def test_options_are_checked_and_paths_are_no_identity() -> None:
    with pytest.raises(
        ConfigError, match=r"dataset\.image_folder: templates: unknown value 'food10'; did you mean"
    ):
        make_source(Choice(name="image_folder", options={"name": "x", "templates": "food10"}), "dataset")
    with pytest.raises(ConfigError, match="name must be letters"):
        make_source(Choice(name="image_folder", options={"name": "a b"}), "dataset")
    plain = identity_of({"pool": ImageFolder(name="x")})
    assert plain == identity_of({"pool": ImageFolder(name="x", root="/y", num_samples=3)})
    assert plain != identity_of({"pool": ImageFolder(name="x", templates="pets")})
