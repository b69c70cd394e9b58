"""95 % intervals: Wilson's against SciPy, and the interval of a mean over classes by simulation."""

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmark.evaluate.intervals import mean_of_proportions, mean_per_class, proportion, wilson


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (0, 50), (50, 50), (1, 3), (7, 20), (999, 1152)])
def test_wilson_agrees_with_scipy(successes: int, count: int) -> None:
    theirs = binomtest(successes, count).proportion_ci(0.95, method="wilson")
    assert wilson(successes, count) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_holds_the_estimate_and_stays_in_the_unit_interval() -> None:
    for count in range(1, 60):
        for successes in range(count + 1):
            low, high = wilson(successes, count)
            assert 0 <= low <= successes / count <= high <= 1
            assert low < high


def test_proportion_counts_its_hits() -> None:
    row = proportion("knn", "toy", "top1", np.array([True, False, True, True]), "p.v1")
    assert (row.value, row.n, row.ci95) == (0.75, 4, wilson(3, 4))


def test_mean_per_class_weighs_classes_alike_and_skips_those_that_do_not_occur() -> None:
    labels = np.array([0, 0, 0, 0, 2, 2])
    hits = np.array([True, True, True, False, False, True])
    row = mean_per_class("zero_shot", "toy", hits, labels, "p.v1")
    assert row.value == pytest.approx((0.75 + 0.5) / 2)
    assert (row.metric, row.n) == ("mean_per_class", 6)
    assert row.ci95[0] < row.value < row.ci95[1]


def test_with_classes_of_one_size_the_mean_has_wilsons_interval() -> None:
    value, interval = mean_of_proportions(np.array([3, 9, 6]), np.array([10, 10, 10]))
    assert value == pytest.approx(18 / 30)
    assert interval == pytest.approx(wilson(18, 30))


@pytest.mark.parametrize("accuracy", [0.04, 0.5, 0.956])
def test_interval_of_the_mean_covers_the_truth(accuracy: float) -> None:
    rng = np.random.default_rng(0)
    counts = np.array([20, 30, 40, 50] * 3)
    covered = 0
    for _ in range(1000):
        low, high = mean_of_proportions(rng.binomial(counts, accuracy), counts)[1]
        covered += low <= accuracy <= high
    assert covered >= 935
