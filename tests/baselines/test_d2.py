"""D2 pruning against slow, obvious oracles: neighbours, messages, and the choice by maximum or by walk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines import _neighbours, _vectors
from baselines._neighbours import nearest
from baselines._vectors import Joined
from baselines.d2 import D2, choose
from benchmark.config.identity import identity_of, label_of
from benchmark.config.run import Choice, resolved
from benchmark.pool.samples import PoolView
from benchmark.pruner import make_pruner


def vectors(n: int, d: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def chosen(method: D2, images: np.ndarray, texts: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    features = {"image_embedding": images, **({} if texts is None else {"text_embedding": texts})}
    method.setup(PoolView(len(images), "test", features), num_epochs=1, seed=seed)
    return method.plan(0).keep


def naive(score: list[float], ids: np.ndarray, taken: np.ndarray, count: int) -> list[int]:
    """The maximum found anew for every choice."""
    now, order = list(score), []
    for _ in range(count):
        rest = [i for i in range(len(now)) if i not in order]
        best = max(rest, key=lambda i: (now[i], -i))
        order.append(best)
        for j, share in zip(ids[best], taken[best], strict=True):
            now[j] -= share * now[best]
    return order


def walked(score: list[float], ids: np.ndarray, taken: np.ndarray, count: int) -> list[int]:
    """The order of first scores walked once, with a list of the postponed that is searched whole every time."""
    now, order, waiting = list(score), [], []
    ahead = sorted(range(len(now)), key=lambda i: (-now[i], i))
    while len(order) < count:
        highest = max(waiting, key=lambda i: now[i]) if waiting else None
        if highest is not None and (not ahead or now[highest] >= now[ahead[0]]):
            waiting.remove(highest)
            best = highest
        else:
            best = ahead.pop(0)
            if ahead and now[best] < now[ahead[0]]:
                waiting.append(best)
                continue
        order.append(best)
        for j, share in zip(ids[best], taken[best], strict=True):
            now[j] -= share * now[best]
    return order


ORACLES = {"greedy": naive, "official": walked}


def slow_d2(
    own: list[float], rows: np.ndarray, k: int, gammas: tuple[float, float], count: int, variant: str
) -> list[int]:
    squares = [[float(((a - b) ** 2).sum()) for b in rows] for a in rows]
    near = [
        sorted((j for j in range(len(rows)) if j != i), key=lambda j: squares[i][j])[:k] for i in range(len(rows))
    ]
    score = [
        own[i] + sum(math.exp(-gammas[0] * squares[i][j]) * own[j] for j in near[i]) for i in range(len(rows))
    ]
    taken = [[math.exp(-gammas[1] * squares[i][j]) for j in near[i]] for i in range(len(rows))]
    return ORACLES[variant](score, np.array(near), np.array(taken), count)


@pytest.mark.parametrize("variant", ORACLES)
@pytest.mark.parametrize("k", [1, 2, 5, 10])
@pytest.mark.parametrize("seed", range(3))
def test_the_heap_chooses_as_the_plain_loop_does(variant: str, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.choice(np.delete(np.arange(200), i), k, replace=False) for i in range(200)])
    score, taken = rng.random(200), rng.random((200, k))
    for count in (1, 60, 200):
        assert choose(score, ids, taken, count, variant) == ORACLES[variant](score.tolist(), ids, taken, count)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_the_heap_is_exact_where_scores_are_equal_rise_and_fall(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 25))
    k = data.draw(st.integers(0, n - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    score = rng.integers(-3, 4, n) / 2  # many ties; from a negative score others rise
    ids = np.array([rng.permutation(np.delete(np.arange(n), i))[:k] for i in range(n)]).reshape(n, k)
    taken = rng.integers(0, 3, (n, k)) / 2
    for variant, oracle in ORACLES.items():
        assert choose(score, ids, taken, n, variant) == oracle(score.tolist(), ids, taken, n)


def test_the_official_walk_keeps_the_top_of_the_graphs_scores_and_greedy_does_not() -> None:
    rng = np.random.default_rng(0)
    ids = np.array([rng.choice(np.delete(np.arange(2000), i), 5, replace=False) for i in range(2000)])
    score, taken = 1 + rng.random(2000), np.full((2000, 5), 0.1)
    top = set(np.argsort(-score)[:1400].tolist())
    shared = {v: len(top & set(choose(score, ids, taken, 1400, v))) / 1400 for v in ORACLES}
    assert shared["official"] > 0.99
    assert shared["greedy"] < 0.9


@pytest.mark.parametrize("variant", ORACLES)
@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("graph", ["both", "image", "text"])
def test_d2_is_its_definition(variant: str, k: int, graph: str) -> None:
    images, texts = vectors(200), vectors(200, seed=1)
    parts = {"both": [images, texts], "image": [images], "text": [texts]}[graph]
    rows = np.concatenate([unit(part) for part in parts], axis=1)
    own = [max(float(f @ g) + 0.115, 1e-7) for f, g in zip(unit(images), unit(texts), strict=True)]
    options = {"graph": graph, "neighbours": k, "gamma_forward": 0.5, "gamma_reverse": 2.0}
    method = D2(keep_fraction=0.4, variant=variant, **options)
    slow = slow_d2(own, rows, k, (0.5, 2.0), 80, variant)
    assert np.flatnonzero(chosen(method, images, texts)).tolist() == sorted(slow)


def test_runs_of_the_choice_before_keep_their_names_and_the_official_one_has_its_own() -> None:
    greedy, official = D2(keep_fraction=0.7, variant="greedy"), D2(keep_fraction=0.7)
    assert label_of("d2", greedy) == "d2(keep_fraction=0.7, variant=greedy)"
    assert label_of("d2", official) == "d2(keep_fraction=0.7, variant=official)"
    assert "variant" not in resolved("d2", greedy, as_before=True).options
    known = {k: v for k, v in vars(greedy).items() if k != "variant"}
    assert identity_of({"pruner": greedy}) == identity_of({"pruner": known}) != identity_of({"pruner": official})


def test_without_captions_a_sample_far_from_its_centroid_is_hard() -> None:
    images = vectors(200)
    method = D2(keep_fraction=0.4, score="prototypes", clusters=1)
    keep = chosen(method, images)
    assert method.needs == ("image_embedding",)
    centre = unit(unit(images).sum(axis=0, keepdims=True))[0]
    distance = [1 - float(f @ centre) for f in unit(images)]
    slow = set(slow_d2(distance, unit(images), 1, (1.0, 1.0), 80, "official"))
    assert len(slow & set(np.flatnonzero(keep).tolist())) >= 79  # cosines with a centroid are rounded


def test_what_it_needs_follows_the_options() -> None:
    both = ("image_embedding", "text_embedding")
    for options, needs in (
        ({}, both),
        ({"graph": "image"}, both),
        ({"score": "prototypes"}, both[:1]),
        ({"score": "prototypes", "graph": "both"}, both),
    ):
        made = make_pruner(Choice(name="d2", options={"keep_fraction": 0.5, **options}), "test")
        assert made.needs == needs
        assert not made.uses_target_data


@pytest.mark.parametrize("k", [1, 4, 12])
@pytest.mark.parametrize("queries", [1, 7, 1000])
def test_neighbours_are_exact_in_a_small_pool(monkeypatch: pytest.MonkeyPatch, k: int, queries: int) -> None:
    monkeypatch.setattr(_neighbours, "QUERIES", queries)
    rows = unit(vectors(60, 4))
    ids, distances = nearest(Joined(rows), k, exact_below=100, cells=None, probes=1, seed=0)
    for i in range(60):
        slow = sorted((float(((rows[i] - rows[j]) ** 2).sum()), j) for j in range(60) if j != i)[:k]
        assert ids[i].tolist() == [j for _, j in slow]
        assert np.allclose(distances[i], [d for d, _ in slow], atol=1e-6)


def test_all_cells_together_give_exact_neighbours() -> None:
    rows = Joined(vectors(300, 4), vectors(300, 4, seed=1))
    exact = nearest(rows, 3, exact_below=1000, cells=None, probes=1, seed=0)
    cells = nearest(rows, 3, exact_below=0, cells=9, probes=9, seed=0)
    assert np.array_equal(exact[0], cells[0])
    assert np.allclose(exact[1], cells[1], atol=1e-6)


def test_a_few_cells_find_nearly_all_near_neighbours() -> None:
    centres = vectors(40, 32)
    rng = np.random.default_rng(3)
    rows = Joined(centres[rng.integers(40, size=4000)] + 0.7 * vectors(4000, 32, seed=2))
    exact, _ = nearest(rows, 1, exact_below=10_000, cells=None, probes=1, seed=0)
    found, _ = nearest(rows, 1, exact_below=0, cells=None, probes=8, seed=0)
    assert (exact == found).mean() > 0.9


def test_a_cell_of_one_sample_has_no_neighbours() -> None:
    rows = np.concatenate([np.tile(vectors(1), (9, 1)), -vectors(1)])
    ids, distances = nearest(Joined(rows), 2, exact_below=0, cells=2, probes=1, seed=0)
    assert ids[9].tolist() == [9, 9]
    assert np.isinf(distances[9]).all()
    assert (distances[:9] < 1e-6).all()
    keep = chosen(
        D2(keep_fraction=0.5, score="prototypes", exact_below=0, cells=2, probes=1, gamma_forward=0), rows
    )
    assert keep.sum() == 5


@pytest.mark.parametrize("n", [1, 2, 3, 50])
@pytest.mark.parametrize("exact_below", [0, 1000])
@pytest.mark.parametrize("score", ["clip", "prototypes"])
def test_small_and_odd_pools_meet_the_budget(n: int, exact_below: int, score: str) -> None:
    zeros, same = vectors(n), np.tile(vectors(1), (n, 1))
    zeros[: n // 2] = 0
    for images in (vectors(n), zeros, same):
        for share in (0.5, 0.9, 1.0):
            options: dict[str, Any] = {"keep_fraction": share, "score": score, "neighbours": 4}
            one, two = (
                chosen(D2(**options, exact_below=exact_below), images, vectors(n, seed=1)) for _ in range(2)
            )
            assert one.sum() == round(share * n)
            assert np.array_equal(one, two)


def test_duplicates_are_spread_out() -> None:
    images, texts = np.repeat(vectors(50, 64), 2, axis=0), np.repeat(vectors(50, 64, seed=1), 2, axis=0)
    keep = chosen(D2(keep_fraction=0.5, offset=2.0, variant="greedy"), images, texts).reshape(50, 2)
    assert keep.sum(axis=1).tolist() == [1] * 50


@pytest.mark.parametrize("exact_below", [0, 1000])
def test_mapped_half_precision_is_read_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact_below: int
) -> None:
    arrays = [unit(vectors(150, 16, seed)).astype(np.float16) for seed in range(2)]
    whole = chosen(D2(keep_fraction=0.5, exact_below=exact_below), *arrays)
    monkeypatch.setattr(_vectors, "BLOCK", 13)
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    mapped = [np.load(tmp_path / f"{number}.npy", mmap_mode="r") for number in range(2)]
    assert np.array_equal(chosen(D2(keep_fraction=0.5, exact_below=exact_below), *mapped), whole)


def test_an_embedding_that_is_not_finite_is_named() -> None:
    images, texts = vectors(50), vectors(50, seed=1)
    images[31, 2] = np.nan
    for exact_below in (0, 100):
        with pytest.raises(ValueError, match="the embedding of sample 31 is not finite"):
            chosen(D2(keep_fraction=0.5, exact_below=exact_below), images, texts)


@pytest.mark.parametrize(
    "options",
    [
        *({"keep_fraction": share} for share in (0.0, 1.1)),
        *({"neighbours": 0}, {"probes": 0}, {"cells": 0}, {"clusters": 0}, {"iterations": 0}),
        *({"gamma_forward": -1.0}, {"gamma_reverse": -0.1}, {"score": "loss"}, {"graph": "video"}),
        {"variant": "lazy"},
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        D2(**{"keep_fraction": 0.5, **options})
