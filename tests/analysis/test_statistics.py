"""The report's statistics against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from analysis.statistics import best_of, paired, spread, t_interval

T_975 = {1: 12.706204736, 2: 4.302652730}
"""Student's t at 0.975 by degrees of freedom, from printed tables."""


def test_spread_has_ddof_1_and_none_for_one_seed() -> None:
    two = spread([0.6, 0.62])
    assert two is not None
    assert (two.n, two.mean, two.sd) == (2, pytest.approx(0.61), pytest.approx(0.02 / math.sqrt(2)))
    one = spread([0.6])
    assert one is not None
    assert one.sd is None
    assert spread([]) is None


def test_t_interval_over_three_seeds_is_mean_plus_t_sd_over_root_n() -> None:
    low, high = t_interval([1.0, 2.0, 3.0]) or (0, 0)
    half = T_975[2] * 1.0 / math.sqrt(3)
    assert (low, high) == (pytest.approx(2 - half), pytest.approx(2 + half))


def test_one_seed_has_no_interval() -> None:
    assert t_interval([0.5]) is None
    difference = paired({0: 0.5}, {0: 0.6})
    assert difference is not None
    assert (difference.n, difference.ci95) == (1, None)


def test_paired_difference_uses_common_seeds_only() -> None:
    difference = paired({0: 0.58, 1: 0.60, 7: 0.0}, {0: 0.60, 1: 0.61, 9: 1.0})
    assert difference is not None
    # -0.02 and -0.01: mean -0.015, sd 0.01 / sqrt(2), half = t sd / sqrt(2) = t * 0.005
    half = T_975[1] * 0.005
    assert difference.n == 2
    assert difference.mean == pytest.approx(-0.015)
    assert difference.ci95 == (pytest.approx(-0.015 - half), pytest.approx(-0.015 + half))


def test_no_common_seed_gives_no_difference() -> None:
    assert paired({0: 0.5}, {1: 0.6}) is None


def test_best_needs_three_common_seeds_and_a_paired_test_against_each_rival() -> None:
    clear = {"a": {0: 0.70, 1: 0.60, 2: 0.65}, "b": {0: 0.60, 1: 0.501, 2: 0.549}}
    assert best_of(clear) == "a"  # 10 points on every seed, though the seeds themselves differ by as much
    assert best_of({name: {s: v for s, v in seeds.items() if s < 2} for name, seeds in clear.items()}) is None
    assert best_of({**clear, "c": {0: 0.70}}) is None  # one seed of a rival proves nothing
    assert best_of({**clear, "c": {0: 0.75, 1: 0.55, 2: 0.60}}) is None
    assert best_of({"a": clear["a"]}) is None


def test_best_pays_for_the_number_of_comparisons() -> None:
    # differences 0.3, 0.5, 0.7: t = 0.5 / (0.2 / sqrt 3) = 4.33, above 4.303 (one comparison), below 6.205 (two)
    a, b = {0: 0.9, 1: 0.9, 2: 0.9}, {0: 0.6, 1: 0.4, 2: 0.2}
    assert best_of({"a": a, "b": b}) == "a"
    assert best_of({"a": a, "b": b, "c": {0: 0.1, 1: 0.11, 2: 0.1}}) is None
