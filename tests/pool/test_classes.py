"""Classes of a pool's samples: for the report, never for methods."""

from __future__ import annotations

from typing import Any

import pytest

from benchmark.pool.sources.digits import Digits
from benchmark.pool.sources.shapes import Shapes


@pytest.mark.parametrize("source", [Shapes(num_samples=200), Digits(image_size=8)])
def test_pools_tell_classes_to_the_report_and_not_to_methods(source: Any) -> None:
    pool = source.training_pool()
    names, of = pool.sample_classes
    assert len(of) == pool.num_samples
    assert sorted(set(of.tolist())) == list(range(10)) == list(range(len(names)))
    assert "classes" not in vars(pool.view())
    assert not {"classes", "sample_classes"} & set(pool.view().features)


def test_the_class_of_shapes_is_what_the_picture_shows() -> None:
    pool = Shapes(num_samples=100).training_pool()
    names, of = pool.sample_classes
    for sample_id in range(100):
        things = pool.describe(sample_id)[0].things
        told = {1: f"one {things[0].shape}", 2: "two objects", 3: "three objects"}[len(things)]
        assert names[of[sample_id]] == told
