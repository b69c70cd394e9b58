"""Methods that score pairs against slow, obvious oracles: CLIP score, negCLIPLoss, NormSim."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines import _norm_sim, _vectors, neg_clip_loss
from baselines._vectors import cosines
from baselines.clip_score import ClipScore
from baselines.neg_clip_loss import NegClipLoss, log_sums
from benchmark.config.identity import identity_of, label_of
from benchmark.config.run import Choice
from benchmark.pool.samples import PoolView
from benchmark.pruner import StaticPruner, make_pruner


def vectors(n: int, d: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def pool_of(images: np.ndarray, texts: np.ndarray, target: np.ndarray | None = None) -> PoolView:
    features = {"image_embedding": images, "text_embedding": texts}
    return PoolView(len(images), "test", features if target is None else {**features, "target_embedding": target})


def chosen(method: StaticPruner, *arrays: np.ndarray, seed: int = 0) -> np.ndarray:
    method.setup(pool_of(*arrays), num_epochs=1, seed=seed)
    return method.plan(0).keep


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def best(scores: Any, count: int) -> list[int]:
    """Ids of the ``count`` highest, the first of equals, rising."""
    return sorted(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count])


def slow_loss(images: np.ndarray, texts: np.ndarray, temperature: float, batches: list[np.ndarray]) -> list[float]:
    f, g, found = unit(images), unit(texts), [0.0] * len(images)
    for ids in batches:
        for i in ids:
            by_image = math.log(sum(math.exp(float(f[i] @ g[j]) / temperature) for j in ids))
            by_text = math.log(sum(math.exp(float(f[j] @ g[i]) / temperature) for j in ids))
            found[i] = float(f[i] @ g[i]) - temperature / 2 * (by_image + by_text)
    return found


@pytest.mark.parametrize("share", [0.1, 0.3, 0.55, 1.0])
def test_clip_score_keeps_the_pairs_that_agree_most(share: float) -> None:
    images, texts = vectors(101), vectors(101, seed=1)
    slow = [float(f @ g) for f, g in zip(unit(images), unit(texts), strict=True)]
    keep = chosen(ClipScore(keep_fraction=share), images, texts)
    assert np.flatnonzero(keep).tolist() == best(slow, round(share * 101))


def test_equal_scores_go_by_position() -> None:
    images, texts = np.repeat(vectors(1), 9, axis=0), np.repeat(vectors(1, seed=1), 9, axis=0)
    for method in (ClipScore(keep_fraction=0.5), NegClipLoss(keep_fraction=0.5)):
        assert np.flatnonzero(chosen(method, images, texts)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
@pytest.mark.parametrize("tile", [1, 7, 64])
def test_neg_clip_loss_of_one_batch_is_the_formula(
    monkeypatch: pytest.MonkeyPatch, temperature: float, tile: int
) -> None:
    monkeypatch.setattr(neg_clip_loss, "TILE", tile)
    images, texts = vectors(40), vectors(40, seed=1)
    method = NegClipLoss(keep_fraction=0.4, temperature=temperature)
    keep = chosen(method, images, texts)
    slow = slow_loss(images, texts, temperature, [np.arange(40)])
    assert np.allclose(method.scores(images, texts), slow, atol=2e-6)
    assert np.flatnonzero(keep).tolist() == best(slow, 16)


def test_neg_clip_loss_is_the_mean_over_random_partitions() -> None:
    images, texts = vectors(50), vectors(50, seed=1)
    method = NegClipLoss(keep_fraction=0.5, batch_size=16, partitions=3)
    method.setup(pool_of(images, texts), num_epochs=1, seed=4)
    slow = []
    for number in range(3):
        batches = np.array_split(method.rng(0, number).permutation(50), 4)
        assert [len(ids) for ids in batches] == [13, 13, 12, 12]
        slow.append(slow_loss(images, texts, 0.01, batches))
    assert np.allclose(method.scores(images, texts), np.mean(slow, axis=0), atol=2e-6)


def test_cosines_of_one_at_a_low_temperature_do_not_overflow() -> None:
    texts = np.concatenate([np.repeat(vectors(1), 20, axis=0), -vectors(1), np.zeros((2, 8), np.float32)])
    method = NegClipLoss(keep_fraction=0.5)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        keep = chosen(method, texts, texts)  # cosines of 1, of -1 and of 0 side by side
        found = method.scores(texts, texts)
    exact = slow_loss(texts, texts, 0.01, [np.arange(23)])
    assert keep.sum() == 12
    assert np.allclose(found, exact, atol=2e-6)


@given(st.integers(1, 12), st.integers(0, 1000), st.sampled_from([1e-3, 0.01, 0.1, 2.0]))
@settings(max_examples=60, deadline=None)
def test_log_sums_are_exact_for_any_spread(n: int, seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    images, texts = (unit(rng.normal(size=(n, 3))).astype(np.float32) for _ in range(2))
    logits = images.astype(np.float64) @ texts.astype(np.float64).T / temperature
    for found, axis in zip(log_sums(images, texts, temperature), (1, 0), strict=True):
        assert np.allclose(found * temperature, np.logaddexp.reduce(logits, axis=axis) * temperature, atol=1e-5)


@pytest.mark.parametrize("norm_sim", ["inf", "2"])
def test_norm_sim_chooses_among_the_best_by_likeness_to_the_target(norm_sim: str) -> None:
    images, texts, target = vectors(90), vectors(90, seed=1), vectors(30, seed=2)
    method = NegClipLoss(keep_fraction=0.3, norm_sim=norm_sim, loss_fraction=0.6)
    keep = chosen(method, images, texts, target)
    left = best(slow_loss(images, texts, 0.01, [np.arange(90)]), 54)
    norms = [np.linalg.norm(unit(target) @ f, ord=float(norm_sim)) for f in unit(images)[left]]
    assert np.flatnonzero(keep).tolist() == [left[i] for i in best(norms, 27)]


def test_norm_sim_2_is_a_quadratic_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_vectors, "BLOCK", 7)
    images, target, ids = vectors(40), vectors(25, seed=1), np.arange(3, 33)
    found = _norm_sim.quadratic(images, ids, _norm_sim.second_moment(target), 25)
    slow = [(np.linalg.norm(unit(target) @ f) ** 2) / 25 for f in unit(images)[ids]]
    assert np.allclose(found, slow, atol=2e-6)
    slow = [np.abs(unit(target) @ f).max() for f in unit(images)[ids]]
    assert np.allclose(_norm_sim.largest(images, ids, target), slow, atol=2e-6)


@pytest.mark.parametrize(("count", "steps"), [(40, 5), (40, 7), (1, 3), (59, 100), (60, 4)])
def test_norm_sim_d_drops_the_least_alike_in_equal_steps(count: int, steps: int) -> None:
    images, ids = vectors(80, d=5), np.random.default_rng(0).permutation(80)[:60]
    rows, left = unit(images), ids.tolist()
    step = math.ceil((60 - count) / steps)
    for _ in range(steps):
        moment = sum(np.outer(rows[i], rows[i]) for i in left) / len(left)
        scores = [rows[i] @ moment @ rows[i] for i in left]
        stays = best(scores, max(count, len(left) - step))
        left = [left[place] for place in stays]
    assert _norm_sim.shrink(images, ids, count, steps).tolist() == left


def test_norm_sim_d_is_chosen_from_what_the_loss_leaves() -> None:
    images, texts = vectors(200), vectors(200, seed=1)
    first = chosen(NegClipLoss(keep_fraction=0.3), images, texts)
    keep = chosen(NegClipLoss(keep_fraction=0.2, norm_sim="self", loss_fraction=0.3, steps=10), images, texts)
    assert keep.sum() == 40
    assert not (keep & ~first).any()
    default = chosen(NegClipLoss(keep_fraction=0.2, norm_sim="self", steps=10), images, texts)
    assert np.array_equal(default, keep)  # 0.2 ** 0.75 is 0.3


def test_an_image_opposite_to_a_target_is_near_it_and_such_runs_have_names_of_their_own() -> None:
    target = vectors(1, seed=2)
    images = np.concatenate([-target, vectors(9)])
    assert _norm_sim.largest(images, np.arange(10), target)[0] == 1
    found = {norm_sim: NegClipLoss(keep_fraction=0.5, norm_sim=norm_sim) for norm_sim in ("inf", "none")}
    told = {norm_sim: label_of("neg_clip_loss", method) for norm_sim, method in found.items()}
    assert told["inf"] == "neg_clip_loss(keep_fraction=0.5, norm_sim=inf, revision=2)"
    assert told["none"] == "neg_clip_loss(keep_fraction=0.5)"
    same = {norm_sim: identity_of({"p": m}) == identity_of({"p": vars(m)}) for norm_sim, m in found.items()}
    assert same == {"inf": False, "none": True}  # as the options alone, without a revision, named them


def test_what_it_needs_and_whether_it_sees_the_target_follow_the_option() -> None:
    for norm_sim in ("none", "self", "inf", 2):
        options = {"keep_fraction": 0.5, "norm_sim": norm_sim}  # 2 as a sweep file has it
        method = make_pruner(Choice(name="neg_clip_loss", options=options), "test")
        sees_target = norm_sim in ("inf", 2)
        assert method.needs[:2] == ("image_embedding", "text_embedding")
        assert ("target_embedding" in method.needs) == sees_target == method.uses_target_data


@pytest.mark.parametrize("n", [1, 2, 3, 40])
@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, *({"norm_sim": p} for p in ("inf", "2", "self"))])
def test_small_and_odd_pools_meet_the_budget(n: int, options: dict[str, Any]) -> None:
    images, texts = vectors(n), vectors(n, seed=1)
    images[: n // 3], texts[n // 2 :] = 0, texts[0]
    for share in (0.5, 0.9, 1.0):
        one, two = (
            chosen(NegClipLoss(keep_fraction=share, **options), images, texts, vectors(5)) for _ in range(2)
        )
        assert one.sum() == round(share * n)
        assert np.array_equal(one, two)


@pytest.mark.parametrize("options", [{}, {"norm_sim": "inf"}, {"norm_sim": "2"}, {"norm_sim": "self"}])
def test_mapped_half_precision_is_read_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    arrays = [unit(vectors(n, 16, seed)).astype(np.float16) for seed, n in enumerate((120, 120, 50))]
    whole = chosen(NegClipLoss(keep_fraction=0.5, **options), *arrays)
    score = chosen(ClipScore(keep_fraction=0.5), *arrays)
    monkeypatch.setattr(_vectors, "BLOCK", 13)
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    mapped = [np.load(tmp_path / f"{number}.npy", mmap_mode="r") for number in range(3)]
    assert np.array_equal(chosen(NegClipLoss(keep_fraction=0.5, **options), *mapped), whole)
    assert np.array_equal(chosen(ClipScore(keep_fraction=0.5), *mapped), score)
    assert cosines(mapped[0], mapped[1]).dtype == np.float32


def test_an_embedding_that_is_not_finite_is_named() -> None:
    images, texts, target = vectors(50), vectors(50, seed=1), vectors(20)
    target[4, 0] = np.nan
    for norm_sim in ("inf", "2"):
        with pytest.raises(ValueError, match="the embedding of target 4 is not finite"):
            chosen(NegClipLoss(keep_fraction=0.5, norm_sim=norm_sim), images, texts, target)
    texts[31, 2] = np.inf
    for method in (ClipScore(keep_fraction=0.5), NegClipLoss(keep_fraction=0.5)):
        with pytest.raises(ValueError, match="the embedding of sample 31 is not finite"):
            chosen(method, images, texts)


@pytest.mark.parametrize(
    "options",
    [
        *({"keep_fraction": share} for share in (0.0, 1.1)),
        *({"batch_size": 0}, {"temperature": 0.0}, {"partitions": 0}, {"steps": 0}, {"norm_sim": "3"}),
        *({"loss_fraction": 0.8}, {"loss_fraction": 0.3, "norm_sim": "inf"}),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        NegClipLoss(**{"keep_fraction": 0.5, **options})
