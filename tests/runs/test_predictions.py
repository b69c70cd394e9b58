"""Predictions: what comes back is what went in, in few bytes; what cannot be paired is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.evaluate.intervals import mean_per_class, proportion
from benchmark.runs.predictions import (
    Predictions,
    PredictionsError,
    merged,
    of_metrics,
    paired,
    read_predictions,
    write_predictions,
)
from benchmark.runs.record import Metric


def made(items: np.ndarray, metric: str = "top1", data: str = "d1", protocol: str = "p.v1") -> Predictions:
    return Predictions("knn", "toy", metric, protocol, data, items)


@pytest.mark.parametrize(
    "items",
    [
        np.array([True, False, True] * 7),
        np.zeros(0, dtype=bool),
        np.array([0, 3, 255]),
        np.array([0, 70000, 3]),
        np.array([-1, 4, 200]),
        np.array([2**40, 0]),
        np.array([0.0, 2.5, 30.25]),
    ],
)
def test_items_survive_the_disk(items: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    write_predictions(path, [made(items)])
    (found,) = read_predictions(path)
    np.testing.assert_array_equal(found.items, items)
    assert (found.items.dtype == bool) == (items.dtype == bool)
    assert (found.key, found.data) == (("knn", "toy", "top1", "p.v1"), "d1")


def test_hits_take_a_bit_and_equal_ones_are_stored_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hits, labels = rng.random(50_000) < 0.5, rng.integers(0, 9, 50_000)
    metrics = [
        proportion("knn", "toy", "top1", hits, "p.v1"),
        mean_per_class("knn", "toy", hits, labels, "p.v1"),
    ]
    path = tmp_path / "predictions.npz"
    write_predictions(path, of_metrics(metrics, "d1"))
    assert path.stat().st_size < 50_000 / 8 + 1500
    assert all((one.items == hits).all() for one in read_predictions(path))
    assert "items" not in metrics[0].row()
    before = path.read_bytes()
    write_predictions(path, of_metrics(metrics[::-1], "d1"))
    assert path.read_bytes() == before, "the same predictions are the same bytes"


def test_a_metric_without_items_leaves_none() -> None:
    assert of_metrics([Metric("knn", "toy", "top1", 0.5, 2, (0.0, 1.0), "p.v1")], "d1") == []


def test_of_an_old_and_a_new_one_the_new_one_stays() -> None:
    old = [made(np.array([True])), made(np.array([True]), metric="top5")]
    new = [made(np.array([False])), made(np.array([False]), protocol="p.v2")]
    found = {one.key: bool(one.items[0]) for one in merged(old, new)}
    assert found == {
        ("knn", "toy", "top1", "p.v1"): False,
        ("knn", "toy", "top5", "p.v1"): True,
        ("knn", "toy", "top1", "p.v2"): False,
    }


def test_only_the_same_items_measured_alike_are_paired() -> None:
    a, b = made(np.array([True, False])), made(np.array([False, False]))
    first, second = paired(a, b)
    assert (first.tolist(), second.tolist()) == ([True, False], [False, False])
    for other in (
        made(np.array([True, False]), data="d2"),
        made(np.array([True, False]), protocol="p.v2"),
        made(np.array([True])),
    ):
        with pytest.raises(ValueError):
            paired(a, other)
    unknown = made(np.array([True]), data="")
    with pytest.raises(ValueError, match="not the same items"):
        paired(unknown, unknown)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x80\x04K\x01."])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    path.write_bytes(content)
    with pytest.raises(PredictionsError, match=r"predictions.npz: cannot be read"):
        read_predictions(path)
    np.savez(path, index=np.array([{"a": 1}], dtype=object))
    with pytest.raises(PredictionsError, match="allow_pickle"):
        read_predictions(path)
