"""Intervals cover as often as they say, also where configurations share seeds and models share test items."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.blocks.crossed import Crossed, crossed
from analysis.blocks.needed import needed_items, needed_seeds
from analysis.blocks.statistics import averaged, best_of, pooled

DRAWS = 4000
TOLERANCE = 0.015
"""Three standard errors of a share of 0.9 in as many draws."""


def differences(configurations: int, correlation: float, seeds: int, draws: int = DRAWS) -> np.ndarray:
    """Differences of true mean 0, float64 [draws, K, n]: those of one seed correlate between configurations."""
    rng = np.random.default_rng((configurations, round(100 * correlation), seeds))
    shared = rng.normal(size=(draws, 1, seeds))
    own = rng.normal(size=(draws, configurations, seeds))
    return np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own


def bootstrapped(drawn: np.ndarray) -> float:
    """What resampling seeds in each configuration for itself covers at 90 %, of differences [draws, K, n]."""
    rng = np.random.default_rng(0)
    draws, configurations, seeds = drawn.shape
    covered = 0
    for sample in drawn:
        picked = rng.integers(seeds, size=(400, configurations, seeds))
        means = np.take_along_axis(sample[None], picked, axis=2).mean(axis=(1, 2))
        low, high = np.quantile(means, [0.05, 0.95])
        covered += bool(low <= 0 <= high)
    return covered / draws


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("configurations", [1, 3, 16])
def test_an_average_over_configurations_covers_what_it_says(
    configurations: int, correlation: float, seeds: int
) -> None:
    covered = 0
    for sample in differences(configurations, correlation, seeds).tolist():
        found = averaged([dict(enumerate(values)) for values in sample], 0.9)
        assert found is not None
        assert found.ci95 is not None
        covered += found.ci95[0] <= 0 <= found.ci95[1]
    assert covered / DRAWS == pytest.approx(0.9, abs=TOLERANCE)


def test_seeds_taken_for_independent_would_fail_that_test() -> None:
    assert bootstrapped(differences(16, 0.4, 5, 300)) < 0.7


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("of_seeds", "of_items"), [(0.0, 0.0), (0.1, 0.0), (0.0, 1.0), (0.1, 1.0)])
def test_seeds_and_items_together_cover_at_least_what_they_say(
    seeds: int, of_seeds: float, of_items: float
) -> None:
    rng = np.random.default_rng((seeds, round(10 * of_seeds), round(of_items)))
    covered = 0
    for _ in range(1000):
        found = crossed([effects(rng, seeds, 120, of_seeds, of_items), effects(rng, seeds, 60, 0.0, of_items)])
        assert found is not None
        low, high = found.interval(0.9)
        covered += low <= 0 <= high
    assert covered / 1000 > 0.87


def effects(rng: np.random.Generator, seeds: int, items: int, of_seeds: float, of_items: float) -> np.ndarray:
    """A seed's effect, an item's and noise, float64 [n, I]."""
    parts = (
        rng.normal(size=(seeds, 1)) * of_seeds,
        rng.normal(size=items) * of_items,
        rng.normal(size=(seeds, items)),
    )
    return parts[0] + parts[1] + parts[2]


def test_the_shares_of_seeds_and_items_are_those_that_were_put_in() -> None:
    rng = np.random.default_rng(1)
    found = [crossed([effects(rng, 5, 200, 0.1, 1.0)]) for _ in range(400)]
    means = np.mean([(one.of_seeds, one.of_items, one.of_rest) for one in found if one], axis=0)
    assert means == pytest.approx([0.1**2 / 5, 1 / 200, 1 / 1000], rel=0.15)


def test_nothing_is_told_of_one_seed_or_where_nothing_varies() -> None:
    assert crossed([np.ones((1, 9))]) is None
    assert crossed([np.ones((3, 9))]) is None
    assert crossed([]) is None


def test_three_seeds_that_agree_by_luck_are_told_by_the_residual_of_all_methods() -> None:
    """Of eight equal methods the one whose differences agree best: its own interval is far too short."""
    rng = np.random.default_rng(2)
    own, all_of_them = 0, 0
    for values in rng.normal(size=(300, 8, 3)):
        table = {str(name): dict(enumerate(row.tolist())) for name, row in enumerate(values)}
        gaps = {name: [table[name][s] - table["0"][s] for s in range(3)] for name in table if name != "0"}
        luckiest = min(gaps, key=lambda name: float(np.std(gaps[name])))
        found, residual = averaged([dict(enumerate(gaps[luckiest]))]), pooled(table, [0, 1, 2])
        assert found is not None
        assert found.ci95 is not None
        assert residual is not None
        own += found.ci95[0] <= 0 <= found.ci95[1]
        low, high = residual.beside(found).ci95 or (0, 0)
        all_of_them += low <= 0 <= high
    assert own / 300 < 0.8
    assert all_of_them / 300 > 0.92


def test_bartletts_test_refuses_to_pool_a_method_that_varies_more() -> None:
    rng = np.random.default_rng(3)
    equal, unequal = 0, 0
    for values in rng.normal(size=(300, 6, 5)):
        for scale in (1.0, 8.0):
            scaled = values * np.array([scale, 1, 1, 1, 1, 1])[:, None]
            found = pooled({str(i): dict(enumerate(row)) for i, row in enumerate(scaled.tolist())}, range(5))
            assert found is not None
            equal += scale == 1.0 and found.is_homoscedastic
            unequal += scale == 8.0 and found.is_homoscedastic
    assert equal / 300 > 0.9
    assert unequal / 300 < 0.2


@pytest.mark.parametrize(("sd", "effect", "level"), [(0.6, 0.5, 0.95), (0.6, 0.5, 0.9), (1.5, 1.0, 0.99)])
def test_the_seeds_told_as_needed_settle_the_effect_in_four_of_five_campaigns(
    sd: float, effect: float, level: float
) -> None:
    needed = needed_seeds(sd, effect, level)
    assert needed is not None
    rng = np.random.default_rng(4)
    for seeds, least, most in ((needed, 0.77, 0.95), (needed - 2, 0.0, 0.8)):
        settled = 0
        for values in rng.normal(effect, sd, size=(1000, seeds)).tolist():
            found = averaged([dict(enumerate(values))], level)
            settled += found is not None and found.ci95 is not None and found.ci95[0] > 0
        assert least < settled / 1000 < most


def test_more_items_help_where_items_vary_and_nothing_where_seeds_do() -> None:
    of_items = Crossed(n=3, items=300, mean=0.0, of_seeds=0.0, of_items=4e-5, of_rest=1e-5, df=10)
    most = needed_items(of_items, 0.005, 0.95, seeds=5)
    assert most is not None
    assert most > 300
    assert needed_items(of_items, 0.01, 0.95, seeds=5) == pytest.approx(most / 4, rel=0.02)
    of_seeds = Crossed(n=3, items=300, mean=0.0, of_seeds=1e-3, of_items=4e-5, of_rest=1e-5, df=3)
    assert needed_items(of_seeds, 0.005, 0.95, seeds=5) is None
    assert needed_seeds(0.006, 0.0, 0.95) is None, "no number of seeds settles nothing"


def test_a_tie_in_every_seed_is_no_best() -> None:
    assert best_of({"a": {0: 0.7, 1: 0.6, 2: 0.5}, "b": {0: 0.6, 1: 0.5, 2: 0.4}}) is None
