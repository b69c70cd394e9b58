"""Logistic regression: the two solvers agree, the search finds the best of all, splits are disjoint."""

import warnings
from functools import lru_cache

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmark.evaluate.probes.logistic import STRENGTHS, TorchFit, best_strength, fitter, search, validation_split
from benchmark.evaluate.tasks.linear_probe import fit


@lru_cache
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, raw, and labels: 1,200 to fit on and 597 that no fit sees."""
    pixels, labels = load_digits(return_X_y=True)
    return pixels[:1200].astype(np.float32), labels[:1200], pixels[1200:].astype(np.float32), labels[1200:]


def test_torchs_gradient_is_that_of_its_loss() -> None:
    rng = np.random.default_rng(0)
    problem = TorchFit(rng.standard_normal((40, 5)), np.arange(40) % 3)
    flat = rng.standard_normal(18)
    wanted = approx_fprime(flat, lambda w: naive_loss(problem, w, 0.3), 1e-6)
    loss, gradient = problem.loss_and_gradient(flat, 0.3)
    assert loss == pytest.approx(naive_loss(problem, flat, 0.3), rel=1e-6)
    np.testing.assert_allclose(gradient, wanted, atol=1e-5)


def naive_loss(problem: TorchFit, flat: np.ndarray, decay: float) -> float:
    weights = flat.reshape(problem.shape)
    features, targets = problem.features.double().numpy(), problem.targets.numpy()
    losses = []
    for x, y in zip(features, targets, strict=True):
        logits = weights[:, :-1] @ x + weights[:, -1]
        losses.append(np.log(np.exp(logits).sum()) - logits[y])
    return float(np.mean(losses) + decay / 2 * (weights[:, :-1] ** 2).sum())


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("strength", [1e-1, 1e1, 1e3])
def test_torch_stops_where_scikit_learn_does(classes: int, strength: float) -> None:
    features, labels, fresh, _ = digits()
    features, labels = features[labels < classes] / 16, labels[labels < classes]
    ours = TorchFit(features.astype(np.float64), labels)(strength)
    theirs = LogisticRegression(C=1 / strength, max_iter=1000).fit(features.astype(np.float64), labels)
    mine = fresh / 16 @ ours.coef_.T + ours.intercept_
    theirs_logits = theirs.decision_function(fresh / 16)
    if classes == 2:  # one vector there
        mine = mine[:, 1] - mine[:, 0]
    else:  # a constant over the classes is free
        mine, theirs_logits = (x - x.mean(axis=1, keepdims=True) for x in (mine, theirs_logits))
    assert np.abs(mine - theirs_logits).max() < 1e-4 * np.abs(theirs_logits).max()
    assert (ours.predict(fresh / 16) == theirs.predict(fresh / 16)).all()


@pytest.mark.slow
@pytest.mark.parametrize("standardise", [False, True])
def test_torch_chooses_the_strength_that_scikit_learn_chooses_and_predicts_the_same(standardise: bool) -> None:
    features, labels, fresh, truth = digits()
    theirs, ours = (fit(features, labels, solver=s, standardise=standardise) for s in ("sklearn", "torch"))
    assert ours.strength == theirs.strength
    assert (ours.predict(fresh) == theirs.predict(fresh)).all()
    assert 0.9 < (ours.predict(fresh) == truth).mean() < 1


@pytest.mark.slow
@pytest.mark.parametrize("standardise", [False, True])
def test_single_precision_scores_within_a_point(standardise: bool) -> None:
    features, labels, fresh, truth = digits()
    hits = [
        (fit(features, labels, solver=s, standardise=standardise).predict(fresh) == truth).sum()
        for s in ("torch", "torch_float32")
    ]
    assert abs(hits[0] - hits[1]) <= 0.01 * len(truth), hits


def test_search_finds_the_peak_of_a_hill_in_fifteen_tries() -> None:
    for peak in range(97):
        tried: list[int] = []

        def accuracy(index: int, peak: int = peak, tried: list[int] = tried) -> float:
            tried.append(index)
            return -abs(index - peak)

        assert search(accuracy, 97, 16) == peak
        assert len(tried) == len(set(tried)) <= 15


def test_search_starts_at_the_published_strengths_and_prefers_the_stronger_of_equals() -> None:
    tried: list[int] = []
    assert search(lambda index: tried.append(index) or 0.5, 97, 16) == 96  # type: ignore[func-returns-value]
    np.testing.assert_allclose(STRENGTHS[tried[:7]], [1e-6, 1e-4, 1e-2, 1, 1e2, 1e4, 1e6])


def test_on_digits_the_search_scores_within_two_validation_images_of_trying_all_strengths() -> None:
    features, labels, _, _ = digits()
    held = validation_split(labels)
    fitted = fitter(features[~held], labels[~held], solver="torch", standardise=True)
    chosen = best_strength(fitted, features[held], labels[held])

    def accuracy(strength: float) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return float((fitted(strength).predict(features[held]) == labels[held]).mean())

    assert accuracy(chosen) >= max(accuracy(float(s)) for s in STRENGTHS[::4]) - 2 / held.sum()


def test_validation_split_is_a_fixed_stratified_fifth() -> None:
    labels = np.array([0] * 50 + [1] * 10 + [2] * 2 + [3])
    split = validation_split(labels)
    assert np.bincount(labels[split], minlength=4).tolist() == [10, 2, 1, 0]
    assert (split == validation_split(labels)).all()
