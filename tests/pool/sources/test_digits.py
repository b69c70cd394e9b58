"""The digits pool: a fixed stratified split whose train side alone is the pool."""

import pickle

import numpy as np
import pytest

from benchmark.config.run import Choice
from benchmark.options import ConfigError
from benchmark.pool.samples import PoolError
from benchmark.pool.source import make_source
from benchmark.pool.sources.digits import CLASS_NAMES, Digits


def test_splits_are_disjoint_by_pixels_and_cover_all_digits() -> None:
    train, test = (
        {image.tobytes() for image in Digits(image_size=8).labelled(split).images} for split in ("train", "test")
    )
    assert (len(train), len(test)) == (1438, 359)
    assert not train & test


def test_the_split_is_stratified() -> None:
    source = Digits(image_size=8)
    train, test = (np.bincount(source.labelled(split).labels) for split in ("train", "test"))
    assert np.abs(test / (train + test) - 0.2).max() < 0.003


def test_the_pool_is_the_train_split_without_captions() -> None:
    source = Digits()
    pool = source.training_pool()
    train = source.labelled("train").images
    assert pool.num_samples == source.expected_samples() == len(train)
    for sample_id in (0, 700, 1437):
        sample = pool.read(sample_id)
        assert sample.caption == ""
        assert sample.image.tobytes() == train[sample_id].tobytes()
    assert pool.key(0).startswith("digits-")
    assert len({pool.key(i) for i in range(pool.num_samples)}) == pool.num_samples
    with pytest.raises(PoolError, match="not 1438"):
        pool.read(1438)


def test_images_are_rgb_of_the_asked_size() -> None:
    for size in (8, 32, 48):
        image = Digits(image_size=size).training_pool().read(3).image
        assert (image.mode, image.size) == ("RGB", (size, size))


def test_a_pickled_pool_reads_the_same() -> None:
    pool = Digits().training_pool()
    again = pickle.loads(pickle.dumps(pool))  # noqa: S301
    assert again.fingerprint == pool.fingerprint
    assert again.read(9).image.tobytes() == pool.read(9).image.tobytes()


def test_content_is_that_of_this_version() -> None:
    assert Digits().training_pool().fingerprint == "d6c783212458e7e3"


def test_size_is_part_of_label_and_fingerprint() -> None:
    assert (Digits().label, Digits(image_size=8).label) == ("digits", "digits-8px")
    assert Digits().training_pool().fingerprint != Digits(image_size=8).training_pool().fingerprint


def test_classes_have_names_and_prompts() -> None:
    test = Digits().labelled("test")
    assert test.class_names == CLASS_NAMES
    assert all("seven" in template("seven") for template in test.templates)
    with pytest.raises(PoolError, match="no split"):
        Digits().labelled("val")
    with pytest.raises(PoolError, match="no held-out pairs"):
        Digits().pairs()


def test_wrong_size_fails_before_any_data_is_read() -> None:
    with pytest.raises(ConfigError, match="image_size must be in"):
        make_source(Choice(name="digits", options={"image_size": 4}), "pool")
