"""COCO and Flickr30k for retrieval: every layout of the annotations gives the same pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from clip_benchmark.datasets.flickr import Flickr as TheirFlickr
from picture_files import number_of, write_picture
from PIL import Image
from torchvision.datasets import Flickr30k as TorchvisionFlickr

from benchmark.config.run import Choice
from benchmark.evaluate.task import make_task
from benchmark.options import ConfigError
from benchmark.pool.samples import PoolError, SampleError
from benchmark.pool.source import PairSet, make_source
from benchmark.pool.sources import coco_captions, flickr30k
from benchmark.pool.sources.coco_captions import CocoCaptions
from benchmark.pool.sources.flickr30k import Flickr30k

CAPTIONS = {
    3: ["A dog, running.", "One dog", "dog", "A brown dog", 'The "dog"', "a sixth"],
    11: ["Cat.", "A cat", "cats", "the cat", "My cat"],
    20: ["Car"],
}
"""By id: ragged, as COCO's are."""
FIVE = {number: (several * 5)[:5] for number, several in CAPTIONS.items()}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(coco_captions.SIZES, "karpathy-test", 3)
    monkeypatch.setitem(coco_captions.SIZES, "val2017", 3)
    monkeypatch.setattr(flickr30k, "NUM_IMAGES", 3)


def as_told(pairs: PairSet) -> dict[int, list[str]]:
    """Number in the image's pixels -> its captions."""
    told: dict[int, list[str]] = {number_of(image): [] for image in pairs.images}
    for caption, owner in zip(pairs.captions, pairs.image_of_caption, strict=True):
        told[number_of(pairs.images[int(owner)])].append(caption)
    return told


def coco_name(number: int, year: str) -> str:
    return f"COCO_{year}_{number:012d}.jpg" if year == "val2014" else f"{number:012d}.jpg"


def write_coco(path: Path, year: str) -> None:
    """COCO's format: annotations of one image need not stand together."""
    ragged = [{"image_id": n, "caption": c[k]} for k in range(6) for n, c in CAPTIONS.items() if k < len(c)]
    images = [{"id": n, "file_name": coco_name(n, year)} for n in reversed(CAPTIONS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": ragged}))


def karpathy(names: dict[int, tuple[str, str]], captions: dict[int, list[str]]) -> str:
    images = [
        {
            "filepath": names[n][0],
            "filename": names[n][1],
            "split": "test",
            "sentences": [{"raw": c} for c in several],
        }
        for n, several in captions.items()
    ]
    other = {"filepath": "train2014", "filename": "absent.jpg", "split": "restval", "sentences": []}
    return json.dumps({"images": [other, *images]})


@pytest.mark.parametrize("layout", ["dataset_coco.json", "coco_test_karpathy.json", "captions_val2017.json"])
@pytest.mark.parametrize("below", ["", "annotations"])
def test_all_layouts_of_coco_give_the_same_pairs(tmp_path: Path, layout: str, below: str) -> None:
    year = "val2017" if "2017" in layout else "val2014"
    for number in CAPTIONS:
        write_picture(tmp_path / year / coco_name(number, year), number)
    path = tmp_path / below / layout
    path.parent.mkdir(exist_ok=True)
    if layout == "dataset_coco.json":
        path.write_text(karpathy({n: (year, coco_name(n, year)) for n in CAPTIONS}, CAPTIONS))
    else:
        write_coco(path, year)
    source = CocoCaptions(root=str(tmp_path), split="val2017" if "2017" in layout else "karpathy-test")
    pairs = source.pairs()
    assert as_told(pairs) == CAPTIONS
    assert pairs.image_of_caption.tolist() == [0] * 6 + [1] * 5 + [2]
    assert pairs.name == f"coco_captions-{source.split}-5k"
    assert pairs.fingerprint == source.pairs().fingerprint != ""


def test_five_captions_an_image_can_be_asked_for(tmp_path: Path) -> None:
    for number in CAPTIONS:
        write_picture(tmp_path / "val2014" / coco_name(number, "val2014"), number)
    write_coco(tmp_path / "coco_test_karpathy.json", "val2014")
    source = CocoCaptions(root=str(tmp_path), captions_per_image=5)
    assert as_told(source.pairs()) == {n: several[:5] for n, several in CAPTIONS.items()}
    assert source.pairs().name == "coco_captions-karpathy-test-5k-first5"
    assert source.pairs().fingerprint != CocoCaptions(root=str(tmp_path)).pairs().fingerprint


@pytest.mark.parametrize("layout", flickr30k.ANNOTATIONS)
@pytest.mark.parametrize("images", [".", *flickr30k.IMAGE_FOLDERS])
def test_all_layouts_of_flickr_give_the_same_pairs(tmp_path: Path, layout: str, images: str) -> None:
    for number in FIVE:
        write_picture(tmp_path / images / f"{number}.jpg", number)
    lines = [(f"{n}.jpg", k, c) for n, several in FIVE.items() for k, c in enumerate(several)]
    if layout.endswith(".json"):
        (tmp_path / layout).write_text(karpathy({n: ("", f"{n}.jpg") for n in FIVE}, FIVE))
    elif layout.endswith(".txt"):
        (tmp_path / layout).write_text("image,caption\n" + "".join(f"{n},{c}\n" for n, _, c in lines))
        theirs = TheirFlickr(str(tmp_path / images), str(tmp_path / layout))
        assert [captions for _, captions in theirs] == list(FIVE.values())
    else:
        other = [("7.jpg", 0, "an image of the train split")]
        (tmp_path / layout).write_text("".join(f"{n}#{k}\t{c}\n" for n, k, c in other + lines))
        (tmp_path / "test.txt").write_text("\n".join(map(str, FIVE)) + "\n")
        theirs = TorchvisionFlickr(str(tmp_path / images), str(tmp_path / layout))
        assert {n: c for n, c in theirs.annotations.items() if n != "7.jpg"} == {
            f"{n}.jpg": c for n, c in FIVE.items()
        }
    pairs = make_source(Choice(name="flickr30k", options={"root": str(tmp_path)}), "dataset").pairs()
    assert as_told(pairs) == FIVE
    assert (pairs.name, len(pairs.captions)) == ("flickr30k-karpathy-test-1k", 15)


@dataclass
class ByTable:
    """Images by the number in their pixels, captions by themselves, on a circle: an angle in degrees each."""

    image_angle: dict[int, float]
    caption_angle: dict[str, float]
    has_text: bool = True

    def encode_images(self, images: Sequence[Image.Image], layer: str = "joint") -> np.ndarray:
        return self._at([self.image_angle[number_of(image)] for image in images])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self._at([self.caption_angle[text] for text in texts])

    @staticmethod
    def _at(degrees: Sequence[float]) -> np.ndarray:
        radians = np.radians(degrees)
        return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_retrieval_takes_one_of_the_five_captions_of_an_image_for_a_hit(tmp_path: Path) -> None:
    images = {1: 0.0, 2: 60.0, 3: 120.0}
    # the nearest caption of image 1 is its third, those of images 2 and 3 are image 1's fourth and fifth
    captions = {1: [170.0, 171.0, 1.0, 61.0, 121.0], 2: [63, 64, 65, 66, 67], 3: [20, 21, 22, 23, 24]}
    lines = [(f"{n}.jpg", f"{n} at {angle}") for n, several in captions.items() for angle in several]
    for number in images:
        write_picture(tmp_path / f"{number}.jpg", number)
    (tmp_path / "flickr30k_test_karpathy.txt").write_text(
        "image,caption\n" + "".join(f"{i},{c}\n" for i, c in lines)
    )
    encoder = ByTable(images, {caption: float(caption.split()[-1]) for _, caption in lines})
    task = make_task(
        Choice(name="retrieval", options={"dataset": {"flickr30k": {"root": str(tmp_path)}}}), "evaluate"
    )
    found = {row.metric: (row.value, row.n) for row in task.run(encoder)}
    # before the best of image 2, at 63, stands 61 of image 1; before that of image 3, at 24, stand nine: 121, 170,
    # 171, 67, 66, 65, 64, 63 and 61
    # captions: of image 1 only that at 1 degree finds it; of image 2 all; of image 3 none (all nearer to image 1)
    assert found == {
        "image_to_text_r1": (pytest.approx(1 / 3), 3),
        "image_to_text_r5": (pytest.approx(2 / 3), 3),
        "image_to_text_r10": (1.0, 3),
        "text_to_image_r1": (pytest.approx(6 / 15), 15),
        "image_to_text_mrr": (pytest.approx((1 + 1 / 2 + 1 / 10) / 3), 3),
        "text_to_image_mrr": (pytest.approx((1 + 4 / 3 + 5 + 5 / 3) / 15), 15),
    }


def test_what_is_wrong_with_the_files_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_BENCH_DATA", str(tmp_path))
    with pytest.raises(
        PoolError, match=r"holds no dataset_flickr30k\.json nor .*docs/data\.md says how to get Flickr30k"
    ):
        Flickr30k().pairs()
    root = tmp_path / "flickr30k"
    path = root / "flickr30k_test_karpathy.txt"
    write_picture(root / "1.jpg", 1)
    path.write_text("image,caption\n1.jpg,one\n2.jpg,two\n")
    with pytest.raises(PoolError, match=r"2\.jpg, which the annotations list, is not there"):
        Flickr30k().pairs()
    path.write_text("image,caption\n1.jpg,one\n")
    with pytest.raises(PoolError, match="list 1 images, not 3"):
        Flickr30k().pairs()
    path.write_text("image,caption\n1.jpg one\n")
    with pytest.raises(PoolError, match=r"line 2 is not 'image\.jpg,caption'"):
        Flickr30k().pairs()
    path.write_text("image,caption\n1.jpg, \n")
    with pytest.raises(PoolError, match=r"1\.jpg has no caption, or an empty one"):
        Flickr30k().pairs()
    path.rename(root / "results_20130124.token")
    (root / "results_20130124.token").write_text("1.jpg#0\tone\n")
    with pytest.raises(PoolError, match=r"holds no test\.txt"):
        Flickr30k().pairs()
    (root / "test.txt").write_text("1\n4\n")
    with pytest.raises(PoolError, match=r"has no caption of 4\.jpg"):
        Flickr30k().pairs()
    (root / "dataset_flickr30k.json").write_text("[]")
    with pytest.raises(PoolError, match="cannot be read as captions: TypeError"):
        Flickr30k().pairs()


def test_a_damaged_image_is_named_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flickr30k, "NUM_IMAGES", 1)
    (tmp_path / "1.jpg").write_bytes(b"no image")
    (tmp_path / "flickr30k_test_karpathy.txt").write_text("image,caption\n1.jpg,one\n")
    pairs = Flickr30k(root=str(tmp_path)).pairs()
    with pytest.raises(SampleError, match=r"1\.jpg: image_undecodable"):
        pairs.images[0]


def test_they_are_for_retrieval_alone() -> None:
    for source in (CocoCaptions(), Flickr30k()):
        assert source.expected_samples() is None
        with pytest.raises(PoolError, match="is for retrieval: train on"):
            source.training_pool()
        with pytest.raises(PoolError, match="no labelled test split"):
            source.labelled("test")
    for name, options in (("coco_captions", {"split": "val2014"}), ("flickr30k", {"captions_per_image": 0})):
        with pytest.raises(ConfigError, match=rf"dataset\.{name}"):
            make_source(Choice(name=name, options=options), "dataset")
