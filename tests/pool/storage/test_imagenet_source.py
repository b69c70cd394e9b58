"""ImageNet in folders: a pool without captions, labelled splits with class names, a list of files that is kept."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from PIL import Image
from shard_files import encoded, number_of_image, png

from benchmark.config.run import Choice
from benchmark.pool.samples import PoolError, SampleError
from benchmark.pool.source import make_source
from benchmark.pool.sources import imagenet
from benchmark.pool.sources.imagenet import ImageNet
from benchmark.pool.storage import imagefolder

TENCH, HEN = "n01440764", "n01514859"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path / "cache"))
    number = 0
    for split, count in (("train", 3), ("val", 2)):
        for wnid in (HEN, TENCH):
            folder = tmp_path / "imagenet" / split / wnid
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{wnid}_{i}.JPEG").write_bytes(png(number))  # as in ImageNet, one is a PNG by content
                number += 1
            (folder / "notes.txt").write_text("no image")
    return tmp_path / "imagenet"


def test_the_pool_is_the_train_folder_in_order(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_BENCH_DATA", str(root.parent))
    source = make_source(Choice(name="imagenet", options={}), "pool")
    assert (source.label, source.expected_samples()) == ("imagenet", 1_281_167)
    pool = source.training_pool()
    assert pool.num_samples == 6
    assert [pool.key(i) for i in (0, 3)] == [f"{TENCH}/{TENCH}_0.JPEG", f"{HEN}/{HEN}_0.JPEG"]
    read = [pool.read(i) for i in range(6)]
    assert [number_of_image(sample.image) for sample in read] == [3, 4, 5, 0, 1, 2]
    assert {sample.caption for sample in read} == {""}
    again = pickle.loads(pickle.dumps(pool))  # noqa: S301
    assert (again.fingerprint, number_of_image(again.read(5).image)) == (pool.fingerprint, 2)
    with pytest.raises(PoolError, match="0 to 5, not 6"):
        pool.read(6)


def test_splits_carry_labels_class_names_and_prompts(root: Path) -> None:
    source = ImageNet(root=str(root), name="imagenet2")
    train, test = source.labelled("train"), source.labelled("test")
    assert (len(train.images), len(test.images)) == (6, 4)
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert test.labels.tolist() == [0, 0, 1, 1]
    assert train.class_names == test.class_names == ["tench", "hen"]
    assert (test.name, test.split, len(test.templates)) == ("imagenet2", "test", 80)
    assert test.templates[0]("hen") == "a bad photo of a hen."
    assert [number_of_image(image) for image in test.images[1:3]] == [9, 6]
    assert isinstance(test.images[0], Image.Image)
    with pytest.raises(PoolError, match="no split 'val'"):
        source.labelled("val")


def test_images_are_read_when_taken_out_and_no_sooner(root: Path) -> None:
    images = ImageNet(root=str(root), name="imagenet2").labelled("test").images
    path = root / "val" / TENCH / f"{TENCH}_1.JPEG"
    path.write_bytes(b"no image")
    part = images[1:]
    with pytest.raises(SampleError, match=rf"sample 1 \({path}\): image_undecodable"):
        part[0]


def test_the_list_of_files_is_kept_until_a_file_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    tail = imagefolder._tail
    monkeypatch.setattr(imagefolder, "_tail", lambda path: opened.append(path.name) or tail(path))
    source = ImageNet(root=str(root))
    before = source.training_pool()
    assert source.training_pool().fingerprint == before.fingerprint
    assert len(opened) == 6  # once, all
    (root / "train" / TENCH / "more.jpg").write_bytes(encoded(Image.new("RGB", (4, 4)), "JPEG"))
    after = source.training_pool()
    assert (after.num_samples, len(opened)) == (7, 13)
    assert after.fingerprint != before.fingerprint
    (root / "train" / ".scan-bench-files.npz").write_bytes(b"damaged")
    assert source.training_pool().fingerprint == after.fingerprint


def test_an_image_that_is_overwritten_in_place_makes_another_pool_and_a_touched_one_does_not(root: Path) -> None:
    source, path = ImageNet(root=str(root)), root / "train" / TENCH / f"{TENCH}_0.JPEG"
    before = source.training_pool()
    folder, old = path.parent.stat().st_mtime_ns, path.read_bytes()
    new = png(77)
    assert len(new) == len(old)
    path.write_bytes(new)
    assert path.parent.stat().st_mtime_ns == folder  # the folder knows nothing of it
    after = source.training_pool()
    assert after.fingerprint != before.fingerprint
    assert after.images().fingerprint != before.images().fingerprint
    path.write_bytes(old)
    os.utime(path, ns=(1, 1))
    assert source.training_pool().fingerprint == before.fingerprint


def test_what_lies_in_a_class_folder_and_is_not_read_is_counted(root: Path) -> None:
    (root / "train" / HEN / "picture.bmp").write_bytes(b"BM")
    (root / "train" / HEN / "more").mkdir()
    (root / "train" / HEN / ".hidden").touch()
    pool = ImageNet(root=str(root)).training_pool()
    assert dict(pool.skipped) == {"file_unused": 3, "folder_unused": 1}
    assert pool.num_samples == 6


def test_what_is_wrong_with_the_folders_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"No such file.*docs/data\.md says how to get ImageNet"):
        ImageNet(root=str(tmp_path / "absent")).training_pool()
    (tmp_path / "flat" / "val").mkdir(parents=True)
    (tmp_path / "flat" / "val" / "1.JPEG").write_bytes(png(1))
    with pytest.raises(PoolError, match="one folder a class"):
        ImageNet(root=str(tmp_path / "flat")).labelled("test")
    (root / "val" / TENCH).rename(root / "val" / "tench")
    with pytest.raises(PoolError, match=r"the class folders of .*train and .*val differ"):
        ImageNet(root=str(root), name="imagenet2").labelled("test")
    (root / "train" / TENCH).rename(root / "train" / "tench")
    with pytest.raises(PoolError, match="a folder tench, which is no class of ImageNet-1k"):
        ImageNet(root=str(root), name="imagenet2").labelled("test")


def test_val_alone_serves_zero_shot(root: Path) -> None:
    (root / "train").rename(root / "elsewhere")
    assert ImageNet(root=str(root), name="imagenet2").labelled("test").class_names == ["tench", "hen"]


def test_a_part_of_imagenet_is_not_evaluated_under_its_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = r"val holds 4 images of 2 classes, ImageNet has 50,000 of 1,000: .*\{name: imagenet-part\}"
    with pytest.raises(PoolError, match=message):
        ImageNet(root=str(root)).labelled("test")
    monkeypatch.setattr(imagenet.published, "wnids", lambda: [TENCH, HEN])
    monkeypatch.setattr(imagenet.published, "names_of_wnids", list)
    monkeypatch.setattr(ImageNet, "published_counts", {"train": 7, "test": 4})
    assert ImageNet(root=str(root)).labelled("test").name == "imagenet"
    with pytest.raises(PoolError, match="train holds 6 images of 2 classes, ImageNet has 7 of 2"):
        ImageNet(root=str(root)).labelled("train")
