"""Part of another source."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from benchmark.config.run import Choice
from benchmark.options import ConfigError
from benchmark.pool.source import make_source


def subset(of: object, **options: object) -> object:
    return make_source(Choice(name="subset", options={"of": of, "num_samples": 40, **options}), "pool")


def test_samples_are_spread_over_the_whole_pool_and_keep_what_is_known_of_them() -> None:
    source = subset({"shapes": {"num_samples": 200}})
    pool, whole = source.training_pool(), source.source.training_pool()  # type: ignore[attr-defined]
    assert pool.num_samples == 40
    assert source.expected_samples() == 40  # type: ignore[attr-defined]
    assert (pool.ids[0], pool.ids[-1]) == (0, 199)
    assert len(set(pool.ids.tolist())) == 40
    for place, number in enumerate(pool.ids.tolist()):
        assert pool.key(place) == whole.key(number)
    assert pool.read(7).caption == pool.caption(7) == whole.caption(int(pool.ids[7]))
    assert (pool.truth["near_duplicate"] == whole.truth["near_duplicate"][pool.ids]).all()
    assert pool.fingerprint != whole.fingerprint
    again = pickle.loads(pickle.dumps(pool))  # noqa: S301 (our own)
    assert (again.fingerprint, again.num_samples) == (pool.fingerprint, 40)


def test_a_pool_that_is_smaller_is_taken_whole() -> None:
    source = subset({"shapes": {"num_samples": 30}})
    pool = source.training_pool()  # type: ignore[attr-defined]
    assert pool.num_samples == source.expected_samples() == 30  # type: ignore[attr-defined]
    assert pool.fingerprint == source.source.training_pool().fingerprint  # type: ignore[attr-defined]


def test_both_splits_have_the_same_classes_and_as_many_images_of_each() -> None:
    source = subset("digits", class_share=0.4)
    train, test = source.train_set(), source.test_set()  # type: ignore[attr-defined]
    assert train.class_names == test.class_names
    assert 2 <= len(train.class_names) < 10
    for found in (train, test):
        counts = np.bincount(found.labels)
        assert len(counts) == len(found.class_names)
        assert counts.max() - counts.min() <= 1
        assert found.fingerprint
    assert 40 <= len(train.images) < 40 + len(train.class_names)
    other = subset("digits", class_share=0.4, seed=1)
    assert other.train_set().class_names == train.class_names  # type: ignore[attr-defined]
    assert other.train_set().fingerprint != train.fingerprint  # type: ignore[attr-defined]


def test_pairs_keep_every_caption_of_the_images_that_are_kept() -> None:
    source = subset("shapes")
    part, whole = source.pairs(), source.source.pairs()  # type: ignore[attr-defined]
    assert len(part.images) == len(part.captions) == 40
    owner = {
        caption: whole.images[i].tobytes()
        for caption, i in zip(whole.captions, whole.image_of_caption, strict=True)
    }
    for caption, image in zip(part.captions, part.image_of_caption, strict=True):
        assert part.images[int(image)].tobytes() == owner[caption]


def test_a_wrong_option_of_the_source_is_told_when_it_is_made() -> None:
    with pytest.raises(ConfigError, match=r"num_samplez.*did you mean 'num_samples'"):
        subset({"shapes": {"num_samplez": 3}})
