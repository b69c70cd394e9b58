"""Few-shot probes: exact counts, disjoint validation images, shared and nested draws, the mean over draws."""

from itertools import pairwise

import numpy as np
import pytest
from task_stubs import FixedSource, TableEncoder

from benchmark.evaluate.probes.logistic import Probe
from benchmark.evaluate.tasks import few_shot
from benchmark.evaluate.tasks.few_shot import FewShot, draw

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 30))
NAMES = ["a", "b", "c", "d"]


@pytest.mark.parametrize("k", [1, 2, 4, 8, 16])
def test_a_draw_has_exactly_k_images_of_each_class_and_other_ones_to_validate_on(k: int) -> None:
    shots, held = draw(LABELS, k, 0, NAMES)
    assert np.bincount(LABELS[shots]).tolist() == [k] * 4
    assert np.bincount(LABELS[held]).tolist() == [min(k, 4)] * 4
    assert not set(shots) & set(held)
    assert len(set(shots)) == 4 * k


def test_draws_are_fixed_differ_and_hold_the_smaller_ones() -> None:
    first = [set(draw(LABELS, k, 0, NAMES)[0]) for k in (1, 2, 4, 8, 16)]
    assert all(small < large for small, large in pairwise(first))
    assert first[2] == set(draw(LABELS, 4, 0, NAMES)[0]) != set(draw(LABELS, 4, 1, NAMES)[0])


def test_too_few_images_are_named() -> None:
    with pytest.raises(ValueError, match="few_shot: class 'd' has 30 training images, fewer than 31 shots"):
        draw(np.sort(LABELS), 31, 0, ["d"] * 4)
    with pytest.raises(ValueError, match="with 30 shots no class has an image left to validate on"):
        draw(LABELS, 30, 0, NAMES)


def source_and_encoder(seed: int = 0) -> tuple[FixedSource, TableEncoder]:
    rng = np.random.default_rng(seed)
    test = np.arange(80) % 4
    centres = np.random.default_rng(9).standard_normal((4, 6))
    features = centres[np.concatenate([LABELS, test])] + 0.5 * rng.standard_normal((200, 6))
    return FixedSource(train_labels=LABELS, test_labels=test, class_names=NAMES), TableEncoder(features)  # type: ignore[arg-type]


def test_more_shots_do_better_and_every_fit_has_its_exact_count(evaluate, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    source, encoder = source_and_encoder()
    fitted = []
    whole = few_shot.fitter

    def counted(features: np.ndarray, labels: np.ndarray, **options: object):  # type: ignore[no-untyped-def]
        fitted.append(np.bincount(labels).tolist())
        assert sorted(encoder.images_seen) == list(range(120))  # no test image yet
        return whole(features, labels, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(few_shot, "fitter", counted)
    found = evaluate(FewShot, source, encoder, shots=[1, 4, 16], draws=2)
    assert fitted == [[k] * 4 for k in (1, 1, 4, 4, 16, 16)]
    assert found["top1_1_shot"].value < found["top1_16_shot"].value
    assert found["top1_4_shot"].n == 80


def test_the_value_is_the_mean_over_draws(evaluate) -> None:  # type: ignore[no-untyped-def]
    source, encoder = source_and_encoder()
    value = evaluate(FewShot, source, encoder, shots=[2], draws=3)["top1_2_shot"].value
    train, test = source.labelled("train"), source.labelled("test")
    features, queries = encoder.encode_images(train.images), encoder.encode_images(test.images)
    hits = []
    for number in range(3):
        shots, held = draw(LABELS, 2, number, NAMES)
        probe: Probe = FewShot(dataset="toy")._fit(features, LABELS, shots, held)
        hits.append((probe.predict(queries) == test.labels).mean())
    assert value == pytest.approx(np.mean(hits))


def test_options_show_in_the_protocol() -> None:
    assert FewShot(dataset="x").protocol == "few_shot.clip_lbfgs_raw.v1"
    assert (
        FewShot(dataset="x", draws=5, solver="torch").protocol == "few_shot.clip_lbfgs_raw_draws5_solver-torch.v1"
    )
    with pytest.raises(ValueError, match="shots must be at least 1 each"):
        FewShot(dataset="x", shots=[0])
