"""Verdicts: each has a case, by the rule of its claim; the paper's scale is never told from small records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from claim_trees import here, judged, run, runs
from hypothesis import given
from hypothesis import strategies as st
from report_trees import COMMAND, plan

from analysis.blocks.statistics import Difference
from analysis.claims.registry import CLAIMS_FILE, read_claims
from analysis.claims.verdicts import (
    NO_RECORDS,
    REFUTED,
    SAME,
    SUPPORTED,
    UNRESOLVED,
    VERDICTS,
    above,
    all_of,
    at_most,
    inside,
    loses_less,
    unsettled,
)
from benchmark.options import ConfigError


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


FULL = runs("full", [0.60, 0.60, 0.60])


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.599, 0.601, 0.600], SUPPORTED),
        ([0.55, 0.56, 0.55], REFUTED),
        ([0.56, 0.64, 0.60], UNRESOLVED),
        ([0.50, 0.60, 0.62], UNRESOLVED),
        ([0.65, 0.66, 0.65], SUPPORTED),  # a clear gain is no loss
        ([0.580, 0.595, 0.590], UNRESOLVED),  # more than the margin is lost, the interval holds it
        ([0.58, 0.62, 0.63], UNRESOLVED),  # a gain whose interval holds the margin
        ([0.599, 0.601], UNRESOLVED),  # two seeds settle nothing
        ([0.55, 0.56], UNRESOLVED),
        ([0.6], UNRESOLVED),
    ],
)
def test_only_a_loss_can_fail_the_small_loss(values: list[float], verdict: str, results: Path) -> None:
    found = judged(results, *FULL, *runs("scan", values, pruned=0.32))["small-loss"]
    assert found.here.verdict == verdict
    assert found.here.n == len(values)
    assert (found.here.interval is None) == (len(values) == 1)
    assert found.at_paper.verdict == NO_RECORDS, "shapes say nothing about the paper's scale"
    assert len(found.here.runs) == 2 * len(values)


def test_the_relative_reading_stands_beside_and_decides_nothing(results: Path) -> None:
    full = [run("full", seed, 0.2) for seed in range(3)]
    scan = [run("scan", seed, value, pruned=0.3) for seed, value in enumerate([0.1949, 0.1951, 0.195])]
    found = here(results, "small-loss", *full, *scan)
    assert found.verdict == SUPPORTED  # half a point
    assert any("relative: −2.5 % of full data's value" in line and REFUTED in line for line in found.told)


def test_a_missing_seed_is_told_with_the_command_that_fills_it(results: Path) -> None:
    found = here(results, "small-loss", *FULL, *runs("scan", [0.6, 0.6], pruned=0.3))
    (gap,) = found.gaps
    assert gap.what == "2 common seeds of at least 3"
    assert gap.command == "python -m benchmark.sweep sweeps/tiny.yaml 'seed=[0,1,2]'"


@pytest.mark.parametrize(("pruned", "verdict"), [(0.32, SUPPORTED), (0.25, REFUTED), (0.6, REFUTED)], ids=str)
def test_the_pruned_share_is_measured(pruned: float, verdict: str, results: Path) -> None:
    assert here(results, "pruning-rate", *runs("scan", [0.6] * 3, pruned=pruned)).verdict == verdict


def rivals(infobatch: float | None = 0.5, pruned: float = 0.3) -> list[dict[str, Any]]:
    found = [
        r
        for name in ("semdedup", "density", "random_subset")
        for r in runs(name, [0.50, 0.501, 0.499], pruned=pruned)
    ]
    if infobatch is not None:
        found += runs("infobatch", [infobatch, infobatch + 0.001, infobatch - 0.001], pruned=pruned)
    return found


SCAN = runs("scan", [0.55, 0.552, 0.549], pruned=0.3)


@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        (rivals(), SUPPORTED),
        (rivals(infobatch=0.7), REFUTED),  # one baseline above is enough
        (rivals(infobatch=0.548), SAME),  # less than half a point above
        (rivals(infobatch=0.5505), SAME),  # and below
        (rivals(infobatch=None), UNRESOLVED),  # one of the paper's baselines is missing
        (rivals(pruned=0.5), UNRESOLVED),  # they saw fewer samples
        (rivals(pruned=0.1), SUPPORTED),  # they saw more and are below all the same
        (rivals(infobatch=0.7, pruned=0.1), UNRESOLVED),  # it saw more samples
        (rivals(infobatch=0.7, pruned=0.325), REFUTED),  # 2.5 points apart are one budget
    ],
    ids=[
        "above all",
        "below one",
        "close",
        "a little below",
        "one missing",
        "they saw fewer",
        "they saw more",
        "one above saw more",
        "at the tolerance",
    ],
)
def test_above_each_baseline_at_one_budget(others: list[dict[str, Any]], verdict: str, results: Path) -> None:
    assert here(results, "above-baselines", *SCAN, *others).verdict == verdict


def test_unequal_budgets_are_told_and_a_missing_baseline_too(results: Path) -> None:
    found = here(results, "above-baselines", *SCAN, *rivals(infobatch=None, pruned=0.5))
    assert any("unequal budgets: semdedup pruned 50.0 %, scan 30.0 %" in line for line in found.told)
    assert any("98.33 % interval" in line for line in found.told), "Bonferroni over the three that are here"
    assert "no record of infobatch" in found.gaps[0].what


def test_a_random_subset_is_one_of_the_papers_baselines(results: Path) -> None:
    others = [one for one in rivals() if one["method"] != "random_subset"]
    found = here(results, "above-baselines", *SCAN, *others)
    assert (found.verdict, found.gaps[0].what.split(":")[0]) == (UNRESOLVED, "no record of random_subset")


def test_a_planned_baseline_is_told_with_its_own_command(results: Path) -> None:
    asked = run("infobatch", 0, 0.5)
    plan(results, asked)
    gap = here(results, "above-baselines", *SCAN, *rivals(infobatch=None)).gaps[0]
    assert (gap.what, gap.command) == ("infobatch: 1 runs are not run", COMMAND)


def coreset(values: list[float], of: str = "scan", count: int = 1, keep: float = 0.7) -> list[dict[str, Any]]:
    names = [f"clip-vit-shapes-{of}-s{i}-abc123" for i in range(count)]
    label = f"coreset of {count} {of} {keep}"
    options = {"keep_fraction": keep, "runs": names, "files": []}
    return runs("coreset", values, pruned=1 - keep, options=options, label=label)


def static(name: str, values: list[float], keep: float = 0.7) -> list[dict[str, Any]]:
    return runs(name, values, pruned=1 - keep, options={"keep_fraction": keep}, label=f"{name} {keep}")


def statics(value: float, keep: float = 0.7) -> list[dict[str, Any]]:
    values = [value, value + 0.001, value - 0.001]
    return [r for name in ("semdedup", "density", "random_subset") for r in static(name, values, keep)]


@pytest.mark.parametrize(("value", "verdict"), [(0.5, SUPPORTED), (0.65, REFUTED)])
def test_coresets_are_compared_at_equal_budgets_alone(value: float, verdict: str, results: Path) -> None:
    ours = coreset([0.6, 0.6, 0.6]) + coreset([0.56, 0.56, 0.56], keep=0.5)
    found = here(results, "coresets", *ours, *statics(value), *static("semdedup", [0.9] * 3, keep=0.9))
    assert found.verdict == verdict, "what nobody else kept is compared with nothing"


def test_an_ensemble_stands_behind_the_runs_own_coreset(results: Path) -> None:
    found = here(results, "coresets", *coreset([0.9] * 3, count=2), *coreset([0.6] * 3), *statics(0.5))
    assert found.mean == pytest.approx(0.1, abs=0.001)


def test_coresets_of_other_methods_are_not_scans(results: Path) -> None:
    found = here(results, "coresets", *coreset([0.9] * 3, of="semdedup"), *statics(0.5))
    assert found.verdict == NO_RECORDS


def test_every_configuration_must_hold(results: Path) -> None:
    def configuration(model: str, values: list[float]) -> list[dict[str, Any]]:
        return runs("full", [0.6] * 3, model=model) + runs("scan", values, pruned=0.3, model=model)

    good = configuration("a", [0.6, 0.6005, 0.5995])
    assert here(results, "every-configuration", *good).verdict == SUPPORTED
    both = judged(results, *good, *configuration("b", [0.5, 0.5005, 0.4995]))
    assert both["every-configuration"].here.verdict == REFUTED
    assert both["small-loss"].here.mean == pytest.approx(-0.05)
    assert both["small-loss"].here.of == 2


@pytest.mark.parametrize(("seconds", "verdict"), [(141.0, SUPPORTED), (150.0, REFUTED)])
def test_overhead_is_seconds_against_samples(seconds: float, verdict: str, results: Path) -> None:
    scan = [run("scan", seed, 0.6, pruned=0.3, training={"seconds": seconds + seed * 0.1}) for seed in range(3)]
    assert here(results, "overhead", *FULL, *scan).verdict == verdict


def test_overhead_needs_one_device(results: Path) -> None:
    scan = [run("scan", seed, 0.6, pruned=0.3, device="other") for seed in range(3)]
    assert here(results, "overhead", *FULL, *scan).verdict == NO_RECORDS


def test_selection_is_tested_against_scans_own_schedule(results: Path) -> None:
    control = runs("scan_random", [0.5, 0.501, 0.499], pruned=0.3)
    found = judged(results, *SCAN, *control)["selection"]
    assert (found.here.verdict, found.claim.kind) == (SUPPORTED, "extension")


def test_variants_of_scan_are_not_scan(results: Path) -> None:
    other = runs("scan", [0.3] * 3, pruned=0.3, options={"cycle": 7}, label="scan(cycle=7)")
    assert here(results, "small-loss", *FULL, *other).verdict == NO_RECORDS


def test_a_pool_with_planted_faults_takes_no_part(results: Path) -> None:
    plain = [*FULL, *runs("scan", [0.60, 0.601, 0.60], pruned=0.3)]
    noisy = [*runs("full", [0.2] * 3, pool="noisy"), *runs("scan", [0.4] * 3, pool="noisy", pruned=0.3)]
    for one in noisy:
        one["config"]["pool"] = {"name": "emoji", "options": {"plant": {"swapped_captions": 0.3}}}
    found = here(results, "small-loss", *plain, *noisy)
    assert (found.verdict, len(found.covered)) == (SUPPORTED, 1)


INTERVALS = st.tuples(st.floats(-0.1, 0.1), st.floats(0, 0.1), st.floats(0, 0.1), st.integers(1, 8)).map(
    lambda v: Difference(v[3], v[0], (v[0] - v[1], v[0] + v[2]) if v[3] > 1 else None)
)


@given(INTERVALS)
def test_verdicts_never_contradict_their_interval(found: Difference) -> None:
    for verdict, at in (
        (loses_less(found, 0.01, 3), -0.01),
        (above(found, 3, 0.005), 0.0),
        (above(found, 3, 0.005, 0.01), 0.01),
        (inside(found, (-0.02, 0.02), 3), -0.02),
        (at_most(found, 0.02, 3), None),
    ):
        assert verdict in VERDICTS
        if found.n < 3:
            assert verdict == UNRESOLVED, "too few seeds settle nothing"
        if verdict == SUPPORTED and at is not None and found.ci95:
            assert found.ci95[0] >= at
        assert unsettled(verdict) == UNRESOLVED


@given(st.floats(-0.05, 0.05), st.floats(0.0001, 0.02), st.floats(0, 0.02))
def test_a_wider_margin_never_takes_support_away(mean: float, half: float, more: float) -> None:
    found = Difference(5, mean, (mean - half, mean + half))
    if loses_less(found, 0.01, 3) == SUPPORTED:
        assert loses_less(found, 0.01 + more, 3) == SUPPORTED
    if loses_less(found, 0.01 + more, 3) == REFUTED:
        assert loses_less(found, 0.01, 3) == REFUTED


@given(INTERVALS, st.floats(0, 0.1))
def test_a_gain_never_takes_support_from_a_small_loss(found: Difference, gain: float) -> None:
    low, high = found.ci95 or (0.0, 0.0)
    better = Difference(found.n, found.mean + gain, found.ci95 and (low + gain, high + gain))
    order = (REFUTED, UNRESOLVED, SUPPORTED)
    assert order.index(loses_less(better, 0.01, 3)) >= order.index(loses_less(found, 0.01, 3))


def test_each_means_the_least_sure_part() -> None:
    assert all_of([SUPPORTED, SAME]) == SAME
    assert all_of([SUPPORTED, SAME, UNRESOLVED]) == UNRESOLVED
    assert all_of([SUPPORTED, UNRESOLVED, REFUTED]) == REFUTED
    assert all_of([]) == NO_RECORDS


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    test: share", "    test: shore", r"claims\[0\].test: must be one of share"),
        ("    rule: >-", "    rulee: >-", r"claims\[0\].rulee: unknown key; did you mean 'rule'"),
        ("margin: 0.01\n", "", "missing margin"),
    ],
)
def test_a_mistake_in_the_registry_is_named(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = CLAIMS_FILE.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "claims.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_claims(tmp_path / "claims.yaml")
