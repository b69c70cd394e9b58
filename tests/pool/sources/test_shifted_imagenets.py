"""ImageNet-V2, -R, -A and -Sketch in the folders people have: labels, names, and what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from open_clip import IMAGENET_CLASSNAMES
from picture_files import number_of, write_picture

from benchmark.config.run import Choice
from benchmark.options import ConfigError
from benchmark.pool.samples import PoolError
from benchmark.pool.source import make_source
from benchmark.pool.sources import _published as published
from benchmark.pool.sources.imagenet_a import ImageNetA
from benchmark.pool.sources.imagenet_r import ImageNetR
from benchmark.pool.sources.imagenet_sketch import ImageNetSketch
from benchmark.pool.sources.imagenet_v2 import ImageNetV2


@pytest.fixture(autouse=True)
def no_cache_in_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SCAN_BENCH_DATA", str(tmp_path / "data"))


def fill(folder: Path, class_folders: list[str], suffix: str) -> None:
    """One picture a class, numbered in the order given."""
    for number, name in enumerate(class_folders):
        write_picture(folder / name / f"x{suffix}", number)


@pytest.mark.parametrize("cls", [ImageNetA, ImageNetR])
def test_sets_of_200_classes_are_classified_among_these_200(
    cls: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cls, "num_images", 200)
    wnids = published.wnids_of(cls.data_set)
    fill(tmp_path / "data" / cls.data_set, wnids, ".jpg")
    (tmp_path / "data" / cls.data_set / "README.txt").write_text("as in the archive")
    test = make_source(Choice(name=cls.data_set, options={}), "dataset").labelled("test")
    assert test.labels.tolist() == [number_of(image) for image in test.images] == list(range(200))
    assert test.class_names == [IMAGENET_CLASSNAMES[published.wnids().index(wnid)] for wnid in wnids]
    assert (test.name, test.split, len(test.templates)) == (cls.data_set, "test", 80)
    assert test.fingerprint == cls().labelled("test").fingerprint != ""


@pytest.mark.parametrize("inside", ["", "sketch"])
def test_sketches_lie_in_the_folder_or_in_the_archives_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    monkeypatch.setattr(ImageNetSketch, "num_images", 1000)
    fill(tmp_path / inside, published.wnids(), ".JPEG")
    test = ImageNetSketch(root=str(tmp_path)).labelled("test")
    assert test.labels.tolist() == [number_of(image) for image in test.images]
    assert test.class_names == list(IMAGENET_CLASSNAMES)


@pytest.mark.parametrize("inside", ["", "imagenetv2-matched-frequency-format-val", "ImageNetV2-matched-frequency"])
@pytest.mark.parametrize("numbered", [True, False])
def test_a_numbered_folder_of_v2_is_the_label_and_not_the_place_among_sorted_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str, numbered: bool
) -> None:
    monkeypatch.setattr(ImageNetV2, "num_images", 1000)
    fill(tmp_path / inside, [str(i) for i in range(1000)] if numbered else published.wnids(), ".jpeg")
    test = ImageNetV2(root=str(tmp_path)).labelled("test")
    assert test.labels.tolist() == [number_of(image) for image in test.images]
    assert sorted(test.labels.tolist()) == list(range(1000))
    assert test.class_names == list(IMAGENET_CLASSNAMES)


def test_another_variant_of_v2_has_another_name_and_folder(tmp_path: Path) -> None:
    assert (ImageNetV2().label, ImageNetV2(variant="top-images").label) == (
        "imagenet_v2",
        "imagenet_v2-top-images",
    )
    with pytest.raises(ConfigError, match="did you mean 'top-images'"):
        make_source(Choice(name="imagenet_v2", options={"variant": "top_images"}), "dataset")
    fill(tmp_path / "data" / "imagenet_v2", ["0", "1"], ".jpeg")
    with pytest.raises(PoolError, match=r"imagenet_v2-top-images: .*imagenetv2-top-images-format-val"):
        ImageNetV2(variant="top-images").labelled("test")


def test_what_is_wrong_with_the_folders_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        PoolError, match=r"imagenet_a: .*one folder a class.*docs/data\.md says how to get ImageNet-A"
    ):
        ImageNetA().labelled("test")
    wnids = published.wnids_of("imagenet_a")
    fill(tmp_path, wnids, ".jpg")
    source = ImageNetA(root=str(tmp_path))
    with pytest.raises(PoolError, match=r"holds 200 images, ImageNet-A has 7500: unpack it again"):
        source.labelled("test")
    monkeypatch.setattr(ImageNetA, "num_images", 200)
    (tmp_path / wnids[7]).rename(tmp_path / "n01440764")  # a class of ImageNet, not of ImageNet-A
    with pytest.raises(PoolError, match=r"200 class folders.*a folder n01440764, which is no class of it"):
        source.labelled("test")
    (tmp_path / "n01440764").rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    monkeypatch.setattr(ImageNetA, "num_images", 199)
    with pytest.raises(PoolError, match=rf"199 class folders, ImageNet-A has 200; it has no folder {wnids[7]}"):
        source.labelled("test")


def test_a_test_set_gives_no_training_images() -> None:
    source = ImageNetR()
    assert source.expected_samples() is None
    with pytest.raises(PoolError, match="imagenet_r is a test set: train on another pool"):
        source.training_pool()
    with pytest.raises(PoolError, match="imagenet_r has no split 'train'"):
        source.labelled("train")
    with pytest.raises(PoolError, match="no held-out pairs"):
        source.pairs()
