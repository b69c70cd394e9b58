"""Fashion-MNIST: the same pool from Debian's package and from torchvision's folder."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import fake_packages as fake
import numpy as np
import pytest

from benchmark.config.run import Choice
from benchmark.options import ConfigError
from benchmark.pool.prepare import fashion_mnist as recipe
from benchmark.pool.prepare.dataset import prepare_data_set
from benchmark.pool.prepare.packages import FetchError
from benchmark.pool.samples import PoolError
from benchmark.pool.source import make_source
from benchmark.pool.sources.fashion_mnist import FashionMnist, stratified


@pytest.fixture
def torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder torchvision downloads to, with two files unpacked and two not."""
    raw = tmp_path / "given" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    files = fake.idx_files()
    for name, data in files.items():
        monkeypatch.setitem(recipe.IDX_SHA256, name, hashlib.sha256(data).hexdigest())
    some = {name: data for name, data in files.items() if "labels" in name}
    for name, data in {**some, **fake.packed({n: d for n, d in files.items() if n not in some})}.items():
        (raw / name).write_bytes(data)
    return tmp_path / "given"


def test_the_pool_is_the_train_split_without_captions(torchvision: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_data_set(recipe.RECIPE, out, torchvision)
    source = FashionMnist(root=str(out))
    pool = source.training_pool()
    sample = pool.read(39)
    assert (pool.num_samples, sample.caption, sample.image.size) == (40, "", (28, 28))
    again = pickle.loads(pickle.dumps(pool))  # noqa: S301
    assert again.read(39).image.tobytes() == sample.image.tobytes()
    assert (again.fingerprint, pool.key(3)) == (pool.fingerprint, "train-00003")
    names, of = pool.sample_classes
    assert of.tolist() == source.labelled("train").labels.tolist()
    assert list(names) == source.labelled("train").class_names
    with pytest.raises(PoolError, match="not 40"):
        pool.read(40)


def test_both_ways_give_the_same_pool(torchvision: Path, tmp_path: Path) -> None:
    folder = tmp_path / "debs"
    folder.mkdir()
    path = folder / "dataset-fashion-mnist_0.0_all.deb"
    files = {f"datasets/fashion-mnist/{name}": data for name, data in fake.packed(fake.idx_files()).items()}
    fake.write_deb(path, files)
    prepare_data_set(fake.pinned(recipe.RECIPE, [path], [files]), tmp_path / "a", folder)
    prepare_data_set(recipe.RECIPE, tmp_path / "b", torchvision)
    a, b = (FashionMnist(root=str(tmp_path / name)).training_pool() for name in "ab")
    assert a.fingerprint == b.fingerprint


def test_labelled_splits_are_the_data_sets_own(torchvision: Path, tmp_path: Path) -> None:
    prepare_data_set(recipe.RECIPE, tmp_path / "out", torchvision)
    source = FashionMnist(root=str(tmp_path / "out"))
    train, test = source.labelled("train"), source.labelled("test")
    assert (len(train.images), len(test.images), test.name) == (40, 10, "fashion_mnist")
    assert test.images[0].tobytes() != train.images[0].tobytes()
    limited = FashionMnist(root=str(tmp_path / "out"), train_limit=20).labelled("train")
    assert np.bincount(limited.labels).tolist() == [2] * 10
    assert limited.name == "fashion_mnist-20"


def test_a_limited_pool_holds_the_same_share_of_each_class(torchvision: Path, tmp_path: Path) -> None:
    prepare_data_set(recipe.RECIPE, tmp_path / "out", torchvision)
    whole = FashionMnist(root=str(tmp_path / "out"))
    limited = FashionMnist(root=str(tmp_path / "out"), pool_limit=20)
    pool, all_images = limited.training_pool(), whole.training_pool()
    assert (pool.num_samples, limited.expected_samples(), limited.label) == (20, 20, "fashion_mnist-20")
    names, of = pool.sample_classes
    assert (len(names), np.bincount(of).tolist()) == (10, [2] * 10)
    for place in (0, 7, 19):
        row = int(pool.key(place).removeprefix("train-"))
        assert pool.read(place).image.tobytes() == all_images.read(row).image.tobytes()
    assert pool.fingerprint != all_images.fingerprint
    assert pickle.loads(pickle.dumps(pool)).key(7) == pool.key(7)  # noqa: S301
    with pytest.raises(PoolError, match="not 20"):
        pool.read(20)
    assert len(limited.labelled("train").images) == 40


def test_a_limited_split_takes_as_many_of_each_class() -> None:
    labels = np.random.default_rng(0).integers(0, 10, 1000)
    ids = stratified(labels, 205)
    counts = np.bincount(labels[ids])
    assert (len(ids), counts.min(), counts.max()) == (205, 20, 21)
    assert set(stratified(labels, 100)) <= set(ids)


def test_another_file_is_refused(torchvision: Path, tmp_path: Path) -> None:
    path = torchvision / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x05")
    with pytest.raises(FetchError, match="train-labels-idx1-ubyte is not the published file"):
        prepare_data_set(recipe.RECIPE, tmp_path / "out", torchvision)
    packed = torchvision / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:100])
    with pytest.raises(FetchError):
        prepare_data_set(recipe.RECIPE, tmp_path / "out", torchvision)
    with pytest.raises(PoolError, match="prepare fashion_mnist"):
        FashionMnist(root=str(tmp_path / "out")).training_pool()


def test_wrong_limit_fails_before_any_data_is_read() -> None:
    for name in ("train_limit", "pool_limit"):
        with pytest.raises(ConfigError, match=f"{name} must be at least 1"):
            make_source(Choice(name="fashion_mnist", options={name: 0}), "pool")
