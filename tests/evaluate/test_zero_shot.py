"""Zero-shot classification: the prompt ensemble, and what a collapsed model gets."""

import numpy as np
import pytest
from task_stubs import FixedSource, TableEncoder

from benchmark.evaluate.scores import unit
from benchmark.evaluate.tasks.zero_shot import CLASSES_AT_ONCE, ZeroShot, class_weights


def test_prompts_are_scaled_before_and_after_their_mean() -> None:
    texts = {"a": [10.0, 0.0], "photo of a": [0.0, 1.0], "b": [3.0, 4.0], "photo of b": [3.0, 4.0]}
    weights = class_weights(TableEncoder(np.zeros((1, 2)), texts), ["a", "b"], [str, "photo of {}".format], "x")
    np.testing.assert_allclose(weights, [[0.5**0.5, 0.5**0.5], [0.6, 0.8]], atol=1e-6)


def test_classes_in_chunks_agree_with_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    names = [str(i) for i in range(2 * CLASSES_AT_ONCE + 3)]
    texts = {text: rng.standard_normal(4) for name in names for text in (name, f"photo of {name}")}
    weights = class_weights(TableEncoder(np.zeros((1, 4)), texts), names, [str, "photo of {}".format], "x")  # type: ignore[arg-type]
    for name, row in zip(names, weights, strict=True):
        both = unit(np.array([texts[name], texts[f"photo of {name}"]]))
        np.testing.assert_allclose(row, unit(both.mean(axis=0, keepdims=True))[0], atol=1e-6)


def test_values_of_a_case_by_hand(evaluate) -> None:  # type: ignore[no-untyped-def]
    source = FixedSource(test_labels=[0, 0, 0, 1], class_names=["a", "b"])
    texts = {"a": [1.0, 0.0], "photo of a": [1.0, 0.0], "b": [0.0, 1.0], "photo of b": [0.0, 1.0]}
    images = np.array([[2.0, 1.0], [5.0, 0.0], [1.0, 3.0], [0.0, 0.1]])  # a, a, b, b
    found = evaluate(ZeroShot, source, TableEncoder(images, texts))
    assert {name: row.value for name, row in found.items()} == {
        "top1": 0.75,
        "mean_per_class": pytest.approx((2 / 3 + 1) / 2),
    }


def test_top5_stands_only_with_more_than_five_classes(evaluate) -> None:  # type: ignore[no-untyped-def]
    for num_classes in (5, 6):
        names = [str(i) for i in range(num_classes)]
        basis = np.eye(num_classes)
        texts = {text: basis[i] for i, name in enumerate(names) for text in (name, f"photo of {name}")}
        source = FixedSource(test_labels=range(num_classes), class_names=names)
        found = evaluate(ZeroShot, source, TableEncoder(basis, texts))  # type: ignore[arg-type]
        assert ("top5" in found) == (num_classes == 6)
        assert found["top1"].value == 1


def test_a_collapsed_model_gets_chance(evaluate) -> None:  # type: ignore[no-untyped-def]
    names = [str(i) for i in range(20)]
    texts = {text: [0.3, 0.7, 0.1] for name in names for text in (name, f"photo of {name}")}
    source = FixedSource(test_labels=list(range(20)) * 5, class_names=names)
    found = evaluate(ZeroShot, source, TableEncoder(np.tile([0.3, 0.7, 0.1], (100, 1)), texts))  # type: ignore[arg-type]
    assert (found["top1"].value, found["top5"].value) == (1 / 20, 5 / 20)
