"""The report's statistics against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from analysis.blocks.statistics import averaged, best_of, paired, pooled, spread, t_interval

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


@pytest.mark.parametrize("values", [[0.5, 0.5], [0.6 - 0.5, 0.601 - 0.501, 0.599 - 0.499], [0.0] * 6])
def test_seeds_that_are_all_equal_have_no_interval(values: list[float]) -> None:
    assert t_interval(values) is None
    found = averaged([dict(enumerate(values))])
    assert found is not None
    assert found.is_constant


def test_an_average_over_configurations_uses_seeds_that_all_have() -> None:
    found = averaged([{0: 0.1, 1: 0.3, 2: 9.0}, {0: 0.3, 1: 0.5}])
    assert found is not None
    assert (found.n, found.mean) == (2, pytest.approx(0.3))
    half = T_975[1] * 0.1  # seed by seed 0.2 and 0.4
    assert found.ci95 == (pytest.approx(0.3 - half), pytest.approx(0.3 + half))
    assert averaged([{0: 1.0}, {1: 1.0}]) is None
    assert averaged([]) is None


def test_configurations_share_their_seeds_so_what_varies_is_the_mean_of_a_seed() -> None:
    # seed by seed the two cancel: each varies, their average does not
    up, down = {s: 0.1 * s for s in range(6)}, {s: -0.1 * s for s in range(6)}
    alone, both = averaged([up]), averaged([up, down])
    assert alone is not None
    assert both is not None
    assert alone.ci95 is not None
    assert both.is_constant
    doubled = averaged([up, up])  # a copy is no new seed
    assert doubled is not None
    assert doubled.ci95 == pytest.approx(alone.ci95)


def test_an_interval_of_another_level_is_the_t_interval_of_that_level() -> None:
    values = [0.1, 0.3, 0.2, 0.5, 0.4]
    found = averaged([dict(enumerate(values))])
    assert found is not None
    assert found.at(0.8).ci95 == pytest.approx(t_interval(values, 0.8))


def test_the_pooled_residual_is_that_of_a_two_way_layout_by_hand() -> None:
    # residuals +-1, 0 and -+1, 0 in two methods and none in the third: 2 x (1 + 0 + 1) = 4 over (3-1)(3-1) = 4
    values = {"a": {0: 11, 1: 10, 2: 9}, "b": {0: 19, 1: 20, 2: 21}, "c": {0: 5, 1: 5, 2: 5}}
    found = pooled({name: {s: v + 100 * s for s, v in own.items()} for name, own in values.items()}, [0, 1, 2])
    assert found is not None
    assert (found.df, found.methods, found.sd) == (4, 3, pytest.approx(math.sqrt(2)))
    assert pooled({name: values[name] for name in "ab"}, [0, 1, 2]) is None, "two methods tell nothing new"
    assert pooled(values, [0, 1, 7]) is None, "no method has that seed"


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9), st.floats(-1, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_intervals_hold_the_mean_move_with_the_values_and_nest(
    values: list[float], shift: float, level: float
) -> None:
    assume(np.ptp(values) > 1e-6)
    low, high = t_interval(values, level) or (0, 0)
    mean = float(np.mean(values))
    assert low - 1e-9 <= mean <= high + 1e-9
    moved = t_interval([value + shift for value in values], level) or (0, 0)
    assert moved == (pytest.approx(low + shift, abs=1e-9), pytest.approx(high + shift, abs=1e-9))
    wide = t_interval(values, 0.999) or (0, 0)
    assert wide[0] <= low + 1e-12
    assert wide[1] >= high - 1e-12
