"""No leakage: the types keep a test split from a fit, and no source has one image in two splits."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import typing
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image
from task_stubs import FixedSource, TableEncoder, image_of

from benchmark import plugins
from benchmark.config.run import Choice
from benchmark.evaluate.scores import TrainFeatures, test_features, train_features
from benchmark.pool.samples import PoolError, fingerprint_of
from benchmark.pool.source import LabelledSet, PairSet, Source, TestSet, TrainSet, make_source

SOURCE = FixedSource(train_labels=[0, 1], test_labels=[1, 0, 1], class_names="ab")  # type: ignore[arg-type]


def test_the_two_splits_are_of_two_types() -> None:
    train, test = SOURCE.train_set(), SOURCE.test_set()
    assert isinstance(train, TrainSet)
    assert isinstance(test, TestSet)
    assert not isinstance(train, TestSet)
    assert not isinstance(test, TrainSet)
    assert (train.split, test.split) == ("train", "test")


def test_features_to_fit_on_come_from_a_train_split_alone() -> None:
    encoder = TableEncoder(np.eye(5))
    train, features = train_features(encoder, SOURCE.train_set(), "x")
    assert (len(train.labels), len(features)) == (2, 2)
    with pytest.raises(AssertionError, match="only a train split can be fitted on"):
        train_features(encoder, SOURCE.test_set(), "x")  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="only a test split is measured on"):
        test_features(encoder, SOURCE.train_set(), "x")  # type: ignore[arg-type]


def test_a_source_that_gives_the_wrong_split_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = FixedSource.labelled
    monkeypatch.setattr(FixedSource, "labelled", lambda self, split: swapped(self, "test"))
    with pytest.raises(AssertionError, match="asked for the train split, got test"):
        SOURCE.train_set()


@pytest.mark.parametrize("name", plugins.names("benchmark.evaluate.tasks"))
def test_whatever_fits_takes_the_type_that_only_a_train_split_has(name: str) -> None:
    module = importlib.import_module(f"benchmark.evaluate.tasks.{name}")
    for function, found in inspect.getmembers(module, inspect.isfunction):
        if found.__module__ != module.__name__ or not (function == "fit" or function.startswith("fit_")):
            continue
        first = next(iter(inspect.signature(found).parameters))
        assert typing.get_type_hints(found)[first] in (TrainFeatures, TrainSet), f"{name}.{function}({first})"


@pytest.mark.slow
def test_mypy_refuses_to_fit_on_a_test_split(tmp_path: typing.Any) -> None:
    api = pytest.importorskip("mypy.api")
    path = tmp_path / "leak.py"
    path.write_text(
        "from benchmark.evaluate.scores import test_features, train_features\n"
        "from benchmark.evaluate.tasks.knn import predict\n"
        "from benchmark.evaluate.tasks.linear_probe import fit\n"
        "def run(encoder, source):  # type: ignore\n"
        "    pass\n"
        "def leak(encoder: 'Encoder', source: 'Source') -> None:\n"
        "    train, test = source.train_set(), source.test_set()\n"
        "    (_, bank), (_, queries) = train_features(encoder, train, 'x'), test_features(encoder, test, 'x')\n"
        "    fit(bank, train.labels)\n"
        "    predict(queries, bank, train.labels)\n"
        "    fit(queries, test.labels)  # line 11\n"
        "    train_features(encoder, test, 'x')  # line 12\n"
        "    predict(bank, queries, train.labels)  # line 13\n"
        "from benchmark.evaluate import Encoder\n"
        "from benchmark.pool import Source\n"
    )
    said, errors, _ = api.run([str(path)])  # as `make lint` runs it, so that what that has looked at is known
    lines = {int(line.split(":")[1]) for line in said.splitlines() if "leak.py" in line and ": error:" in line}
    assert lines == {11, 12, 13}, said + errors


MADE_HERE = ["shapes", "digits"]
NOT_OURS = [
    *("webdataset", "parquet", "csv", "files", "clip_benchmark", "image_folder", "cifar10", "cifar100", "subset")
]
"""What is given, and published splits that are known to hold copies of one another's images."""
SOURCES: list[Choice] = [
    *(Choice(name=name) for name in plugins.names("benchmark.pool.sources") if name not in ("shapes", *NOT_OURS)),
    Choice(name="shapes", options={"num_samples": 512}),
    Choice(name="emoji", options={"split": "images"}),
    Choice(name="emoji", options={"vendors": "both"}),
    Choice(name="digits", options={"image_size": 8}),
]
TEST_SETS = ["imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch", "coco_captions", "flickr30k"]
"""Nothing can be trained on them."""
MOST = 20_000
"""Images of a split that are looked at."""


def content(images: Sequence[Image.Image]) -> set[str]:
    return {
        hashlib.sha256(f"{image.size}".encode() + image.convert("RGB").tobytes()).hexdigest()
        for image in (images[i] for i in range(min(len(images), MOST)))
    }


def of(source: Source, what: str) -> set[str] | None:
    """Hashes of the images of a part, None where the source has no such part."""
    try:
        if what == "pool":
            pool = source.training_pool()
            return content([pool.read(i).image for i in range(min(pool.num_samples, MOST))])
        return content(source.pairs().images if what == "pairs" else source.labelled(what).images)
    except PoolError as error:
        if "prepare" in str(error) or "expected" in str(error):
            raise
        return None


@pytest.mark.parametrize("choice", SOURCES, ids=lambda c: f"{c.name}{c.options or ''}")
def test_no_image_is_in_two_splits(choice: Choice) -> None:
    source = make_source(choice, "source")
    try:
        train, test, pairs, pool = (of(source, what) for what in ("train", "test", "pairs", "pool"))
    except PoolError as error:
        assert choice.name not in MADE_HERE
        pytest.skip(f"no data here: {error}")
    if choice.name in TEST_SETS:
        assert pool is None
        assert train is None
        return
    assert pool
    for name, held_out in (("test", test), ("pairs", pairs)):
        assert not pool & (held_out or set()), f"{name} images are trained on"
        assert not (train or set()) & (held_out or set()), f"{name} images are fitted on"


def test_fingerprints_follow_the_content() -> None:
    def made(images: Sequence[Image.Image], labels: Sequence[int] = (0, 1), names: str = "ab") -> str:
        return LabelledSet("toy", "test", images, np.array(labels), list(names), [str]).fingerprint

    a, b = image_of(1), image_of(2)
    known = made([a, b])
    assert len(known) == 16
    assert made([image_of(1), image_of(2)]) == known
    assert len({known, made([b, a]), made([a, b], [1, 0]), made([a, b], names="xy"), made([a, a])}) == 5
    pairs = [
        PairSet("toy", [a, b], captions, np.array([0, 1])).fingerprint for captions in (["x", "y"], ["xy", ""])
    ]
    assert pairs[0] != pairs[1]
    assert fingerprint_of(range(3)) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["shapes", "digits"])
def test_a_source_opened_twice_has_one_fingerprint_and_another_content_another(name: str) -> None:
    def made(split: str, **options: int) -> str:
        return make_source(Choice(name=name, options=options), "s").labelled(split).fingerprint

    assert made("test") == made("test") != ""
    assert len({made("test"), made("train"), made("test", image_size=16)}) == 3
