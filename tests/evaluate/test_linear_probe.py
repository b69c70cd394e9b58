"""The linear probe: its search, its split, and that the test split takes no part in the fit."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from task_stubs import FixedSource, TableEncoder

from benchmark.evaluate.tasks.linear_probe import LinearProbe, fit


def blobs(seed: int, count: int, num_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % num_classes
    centres = np.random.default_rng(99).standard_normal((num_classes, 6))
    return (5 + 2 * (centres[labels] + rng.standard_normal((count, 6)))).astype(np.float32), labels


def test_fit_is_scikit_learns_on_standardised_features_of_the_whole_train_split() -> None:
    features, labels = blobs(0, 90)
    probe = fit(features, labels)
    scaled = (features - features.mean(axis=0, dtype=np.float64)) / features.std(axis=0, dtype=np.float64)
    theirs = LogisticRegression(C=1 / probe.strength, max_iter=1000).fit(scaled, labels)
    np.testing.assert_allclose(probe.classifier.coef_, theirs.coef_, rtol=1e-4, atol=1e-6)
    fresh, _ = blobs(1, 60)
    moved = (fresh - features.mean(axis=0)) / features.std(axis=0)
    assert (probe.predict(fresh) == theirs.predict(moved)).all()


def test_scale_and_offset_of_the_features_do_not_matter() -> None:
    features, labels = blobs(0, 90)
    fresh, _ = blobs(1, 60)
    moved = fit(features * 100 - 7, labels)
    assert (fit(features, labels).predict(fresh) == moved.predict(fresh * 100 - 7)).all()


def test_the_fit_is_over_before_a_test_image_is_encoded(evaluate, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    features, labels = blobs(0, 90)
    encoder = TableEncoder(features)
    source = FixedSource(train_labels=labels[:60], test_labels=labels[60:], class_names="abc")  # type: ignore[arg-type]
    seen = []

    def watched(features: np.ndarray, labels: np.ndarray, **options: Any):  # type: ignore[no-untyped-def]
        seen.append(sorted(encoder.images_seen))
        return fit(features, labels, **options)

    monkeypatch.setattr("benchmark.evaluate.tasks.linear_probe.fit", watched)
    found = evaluate(LinearProbe, source, encoder)
    assert seen == [list(range(60))]
    assert sorted(encoder.images_seen) == list(range(90))
    assert found["top1"].n == found["mean_per_class"].n == 30
    assert found["top1"].value > 0.6


def test_a_collapsed_model_gets_chance(evaluate) -> None:  # type: ignore[no-untyped-def]
    source = FixedSource(train_labels=list(range(4)) * 5, test_labels=list(range(4)) * 6, class_names="abcd")
    assert evaluate(LinearProbe, source, TableEncoder(np.full((44, 3), 2.5)))["top1"].value == 0.25


def test_features_that_are_not_finite_are_a_clear_error(evaluate) -> None:  # type: ignore[no-untyped-def]
    source = FixedSource(train_labels=[0, 1] * 5, test_labels=[0, 1], class_names="ab")
    with pytest.raises(ValueError, match="linear_probe on toy: 10 of 10 image features are not finite"):
        evaluate(LinearProbe, source, TableEncoder(np.full((12, 3), np.nan)))


def test_classes_of_one_image_leave_nothing_to_validate_on() -> None:
    with pytest.raises(ValueError, match="no class has two training images"):
        fit(np.eye(3), np.arange(3))
