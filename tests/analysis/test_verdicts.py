"""What stands with a verdict: control, alternatives, interim, second opinions; and what averages leave out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from claim_trees import at_paper, here, judged, read, run, runs, zero_shot
from report_trees import metric, plan, put

from analysis.blocks.block import build_blocks, interim, used_runs
from analysis.blocks.informative import AT_CEILING, FILE, NEAR_CHANCE, read_rule
from analysis.claims.registry import CLAIMS_FILE, read_claims
from analysis.claims.verdicts import NO_RECORDS, REFUTED, SAME, SUPPORTED, UNRESOLVED
from analysis.read.results import load
from benchmark.options import ConfigError
from benchmark.runs.folder import PLAN_FILE
from benchmark.runs.predictions import Predictions, write_predictions

FULL = runs("full", [0.60, 0.60, 0.60])
SCAN = runs("scan", [0.599, 0.601, 0.600], pruned=0.32)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def control(values: Sequence[float]) -> list[dict[str, Any]]:
    return runs("scan_random", values, pruned=0.32)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (control([0.601, 0.599, 0.600]), "[−0.2, +0.2] (n = 3 seeds), supported: not specific to SCAN"),
        (control([0.5, 0.501, 0.499]), "refuted"),
        ([], "no record of scan_random to hold it against: whether it is specific to SCAN is not known"),
    ],
    ids=["the control passes too", "it does not", "no control"],
)  # fmt: skip
def test_a_positive_verdict_on_scan_tells_what_its_control_does_by_the_same_rule(
    others: list[dict[str, Any]], said: str, results: Path
) -> None:
    found = judged(results, *FULL, *SCAN, *others)
    assert found["small-loss"].here.verdict == SUPPORTED
    assert found["small-loss"].here.control.endswith(said)
    assert found["small-loss"].here.control in found["small-loss"].here.lines
    assert found["selection"].here.control == "", "it asks that itself"


def test_three_equal_differences_settle_nothing_and_warn(results: Path) -> None:
    found = here(results, "small-loss", *FULL, *runs("scan", [0.60, 0.60, 0.60], pruned=0.32))
    assert (found.verdict, found.interval, found.n) == (UNRESOLVED, None, 3)
    assert found.warnings == ("full: all 3 seeds are equal, so how much they vary is not known",)


def test_seeds_with_the_same_values_everywhere_are_told_in_their_table(results: Path) -> None:
    _, (block,) = read(results, *(run("full", seed, 0.6) for seed in range(3)), *SCAN)
    assert block.warnings == ("full: its 3 seeds have the same values everywhere; was the seed used?",)


def test_an_unresolved_verdict_tells_the_seeds_that_would_settle_it(results: Path) -> None:
    found = here(results, "small-loss", *FULL, *runs("scan", [0.58, 0.61, 0.60], pruned=0.32))
    assert found.verdict == UNRESOLVED
    assert found.needed is not None
    assert found.needed > 3
    assert found.said == f"unresolved (would take n ≈ {found.needed})"


def test_what_is_within_the_smallest_effect_is_the_same(results: Path) -> None:
    found = here(results, "selection", *SCAN, *control([0.597, 0.599, 0.598 - 0.0005]))
    assert found.interval is not None
    assert found.interval[0] > 0, "above, but by less than matters"
    assert (found.verdict, found.said) == (SAME, "the same within ±0.5 points")


@pytest.mark.parametrize(
    ("lead", "verdict"), [(0.02, SUPPORTED), (0.005, REFUTED), (0.01, UNRESOLVED)], ids=["2", "half", "one"]
)
def test_a_large_margin_is_at_least_one_point(lead: float, verdict: str, results: Path) -> None:
    names = ("semdedup", "density", "infobatch", "random_subset")
    rivals = [one for name in names for one in runs(name, [0.60, 0.6005, 0.5995], pruned=0.32)]
    scan = runs("scan", [0.60 + lead, 0.60 + lead, 0.60 + lead], pruned=0.32)
    found = judged(results, *rivals, *scan)
    assert found["large-margin"].here.verdict == verdict
    assert found["above-baselines"].here.verdict == SUPPORTED


def test_seeds_that_agree_by_luck_support_nothing_where_methods_vary_more(results: Path) -> None:
    spread = [0.02, -0.02, 0.0], [-0.02, 0.0, 0.02], [0.0, 0.02, -0.02], [0.02, 0.0, -0.02]
    others = [
        one
        for name, noise in zip(("density", "semdedup", "infobatch", "random_subset"), spread, strict=True)
        for one in runs(name, [0.6 + value for value in noise], pruned=0.32)
    ]
    lucky = runs("scan", [0.607, 0.598, 0.602], pruned=0.32)
    alone = here(results / "alone", "small-loss", *FULL, *lucky)
    found = here(results / "all", "small-loss", *FULL, *lucky, *others)
    assert (alone.verdict, found.verdict) == (SUPPORTED, UNRESOLVED)
    assert found.mean == alone.mean
    assert any("agree better than those of all methods do" in line for line in found.told)
    assert any(line.startswith("by the residual of 6 methods (10 df") for line in found.second)


def recall(value: float) -> dict[str, Any]:
    return metric(value, task="retrieval", metric="image_to_text_r1", protocol="retrieval.v1")


def test_the_registry_chooses_the_measure_and_the_others_stand_beside_it(results: Path) -> None:
    records = [*FULL, *SCAN]
    for i, one in enumerate(records):
        lost = 0.05 * (one["method"] == "scan") + 0.0001 * i**2
        one = dict(one, metrics=[*one["metrics"], recall(0.4 - lost)])
        put(results, one)
    blocks = build_blocks(found := load(results))
    (loss,) = [j.here for j in judge_of(blocks, found) if j.claim.id == "small-loss"]
    assert (loss.verdict, loss.measure) == (SUPPORTED, "zero-shot top1 on shapes")
    assert {one.name: one.said for one in loss.alternatives}["retrieval"] == REFUTED
    assert any(one.told.startswith("by all tasks in its place: −2.") for one in loss.alternatives)


def judge_of(blocks: Any, found: Any) -> Any:
    from analysis.claims.judge import judge

    return judge(read_claims(), blocks, found)


def test_a_configuration_without_the_measure_does_not_count_by_another(results: Path) -> None:
    records = [dict(one, metrics=[recall(one["metrics"][0]["value"])]) for one in (*FULL, *SCAN)]
    found = here(results, "small-loss", *records)
    assert (found.verdict, found.covered) == (NO_RECORDS, ())


def test_an_interim_verdict_says_how_much_of_the_plan_it_rests_on(results: Path) -> None:
    others = [run("scan", seed, 0.6, model=model) for model in "abc" for seed in range(5)]
    plan(results, *FULL, *SCAN, *others)
    found = here(results, "small-loss", *FULL, *SCAN)
    assert (found.verdict, found.interim) == (SUPPORTED, "interim (1 of 4 configurations, 3 of 5 seeds)")
    assert interim(build_blocks(load(results)), 5) == "interim (1 of 4 configurations, 3 of 5 seeds)"
    (results / "tiny" / PLAN_FILE).unlink()
    assert interim(build_blocks(load(results)), 3) == ""


def test_a_finding_lists_the_runs_it_used_and_no_other(results: Path) -> None:
    unpaired = [run("full", 7, 0.6), run("scan", 8, 0.6, pruned=0.32)]
    found = here(results, "small-loss", *FULL, *SCAN, *unpaired)
    assert {one.record["seed"] for one in found.runs} == {0, 1, 2}
    assert len(found.runs) == 6


def test_a_run_trained_in_two_sweeps_counts_and_stands_once(results: Path) -> None:
    again = [dict(one, sweep="again", finished="2025-02-01T00:00:00+00:00") for one in FULL]
    put(results, *FULL, *SCAN, *again)
    plan(results, *FULL)
    plan(results, *again, sweep="again")
    found = load(results)
    assert (len(found.runs), found.num_planned, found.problems) == (6, 3, ())
    assert {r.record["sweep"] for r in found.runs if r.record["method"] == "full"} == {"again"}, "the last holds"
    assert len(used_runs(build_blocks(found))) == 6


@pytest.mark.parametrize(
    ("value", "dataset", "changes", "mark"),
    [
        (0.03, "emoji-name", {"task": "zero_shot"}, NEAR_CHANCE),
        (0.14, "emoji-category", {"task": "zero_shot"}, NEAR_CHANCE),
        (0.5, "emoji-category", {"task": "zero_shot"}, None),
        (0.99, "digits-28px", {}, AT_CEILING),
        (0.14, "digits-28px", {}, NEAR_CHANCE),
        (0.07, "clipart", {"task": "retrieval", "metric": "text_to_image_r10"}, None),
        (0.05, "clipart", {"task": "retrieval", "metric": "text_to_image_r10"}, NEAR_CHANCE),
        (0.03, "unknown", {}, None),
    ],
)  # fmt: skip
def test_what_tells_nothing_of_methods_is_marked_by_full_data_alone(
    value: float, dataset: str, changes: dict[str, Any], mark: str | None, results: Path
) -> None:
    full, scan = ([metric(v, dataset=dataset, **changes)] for v in (value, 0.6))
    records = [dict(one, metrics=full) for one in FULL] + [dict(one, metrics=scan) for one in SCAN]
    _, (block,) = read(results, *records)
    assert list(block.marks.values()) == ([mark] if mark else [])


def test_what_is_marked_takes_no_part_in_a_verdict(results: Path) -> None:
    records = []
    for one in (*FULL, *SCAN):
        lost = 0.5 * (one["method"] == "scan")
        records.append(dict(one, metrics=[*one["metrics"], zero_shot(0.02 * (1 - lost), "emoji-name")]))
    found = here(results, "small-loss", *records)
    assert (found.verdict, found.measure) == (SUPPORTED, "zero-shot top1 on shapes")
    assert any("emoji-name, near chance" in line for line in found.told)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("ceiling", 2, "ceiling: must be"), ("classes", {"a": 1}, "classes: expected"), ("sealing", 1, "unknown")],
)
def test_a_mistake_in_the_rule_is_named(key: str, value: Any, said: str, tmp_path: Path) -> None:
    content = yaml.safe_load(FILE.read_text(encoding="utf-8")) | {key: value}
    (tmp_path / "rule.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_rule(tmp_path / "rule.yaml")


def test_an_endpoint_that_is_no_measure_is_named(tmp_path: Path) -> None:
    text = CLAIMS_FILE.read_text(encoding="utf-8").replace("clip: zero-shot,", "clip: zero-shut,")
    (tmp_path / "claims.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"endpoint\.clip: 'zero-shut' is no measure"):
        read_claims(tmp_path / "claims.yaml")


ITEMS = 400


def with_items(results: Path, records: list[dict[str, Any]], broken: str = "") -> list[dict[str, Any]]:
    """The records with a value counted from hits that share the items' difficulty, and these hits beside them."""
    rng = np.random.default_rng(0)
    difficulty = rng.random(ITEMS)
    made = []
    for one in records:
        hits = difficulty + 0.3 * rng.normal(size=ITEMS) < 0.6
        told = zero_shot(float(hits.mean())) | {"n": ITEMS}
        made.append(dict(one, metrics=[told]))
        key = told["task"], told["dataset"], told["metric"], told["protocol"]
        stored = hits[::-1] & False if broken == "hits" else hits
        found = Predictions(*key, "" if broken == "data" else "the set", stored)
        path = results / one["sweep"] / one["run"] / "predictions.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_predictions(path, [found])
    return made


def test_seeds_and_items_together_are_told_where_predictions_lie_beside_the_records(results: Path) -> None:
    found = here(results, "small-loss", *with_items(results, [*FULL, *SCAN]))
    (line,) = [
        line for line in found.second if line.startswith("seeds and items together (3 × 400): 90 % interval")
    ]
    assert "of the variance of the mean seeds are" in line


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("data", "has no items that can be paired"),
        ("hits", "is not the mean of its hits"),
        ("file", "predictions.npz"),
    ],
)
def test_items_that_cannot_be_used_are_told(broken: str, said: str, results: Path) -> None:
    records = with_items(results, [*FULL, *SCAN], broken)
    if broken == "file":
        for path in results.glob("*/*/predictions.npz"):
            path.write_bytes(b"no archive")
    found = here(results, "small-loss", *records)
    assert any("together: not known" in line and said in line for line in found.second)


def test_the_papers_scale_is_interim_until_all_sixteen_are_there(results: Path) -> None:
    found = judged(results, *at_paper("full", [0.2, 0.21, 0.2]), *at_paper("scan", [0.2, 0.2101, 0.2002]))
    assert found["small-loss"].at_paper.interim == "interim (1 of 16 configurations, 3 of 5 seeds)"
