"""The published arm in the report: tables of its own, paired within it, and outside of the claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from claim_trees import read, runs

from analysis.claims.judge import judge
from analysis.claims.registry import read_claims
from analysis.read.methods import is_published_scan
from benchmark.config import published

DEFAULTS = {"lr_clock": "progress", "batch_norm": "global", "feature_gradient": "sum", "logits": "fp32"}
SCAN = {"redundant_share": 0.3, "ill_matched_share": 0.3, "rank_within": "global"}


def trained(records: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
    for one in records:
        one["config"]["train"] |= options
        one["run"] += "-".join(["", *map(str, options.values())])
    return records


def test_an_arm_has_a_table_of_its_own_whose_title_says_so(tmp_path: Path) -> None:
    ours = [*runs("full", [0.5]), *runs("scan", [0.5], options=SCAN)]
    arm = trained([*runs("full", [0.6]), *runs("scan", [0.6], options=SCAN)], **published.TRAIN["clip"])
    _, blocks = read(tmp_path, *trained(ours, **DEFAULTS), *arm)
    assert {block.title.split(" · ")[-1]: block.is_published for block in blocks} == {
        "arm = ours": False,
        "arm = published": True,
    }
    for block in blocks:
        assert [row.method for row in block.rows] == ["full", "scan"]


def test_records_from_before_later_options_stand_in_one_table_with_those_at_their_defaults(tmp_path: Path) -> None:
    before = trained(runs("full", [0.5]), lr_clock="progress")
    after = trained(runs("scan", [0.5], options=SCAN), **DEFAULTS, warmup_from_zero=False)
    _, blocks = read(tmp_path, *before, *after)
    (block,) = blocks
    assert [row.method for row in block.rows] == ["full", "scan"]


def test_the_arm_takes_no_part_in_claims(tmp_path: Path) -> None:
    ours = trained([*runs("full", [0.5] * 3), *runs("scan", [0.5] * 3, pruned=0.3, options=SCAN)], **DEFAULTS)
    results, blocks = read(tmp_path / "one", *ours)
    arm = trained(
        [*runs("full", [0.9] * 3), *runs("scan", [0.1] * 3, pruned=0.3, options=SCAN)], **published.TRAIN["clip"]
    )
    both_results, both_blocks = read(tmp_path / "two", *ours, *arm)
    assert len(both_blocks) == 2
    registry = read_claims()
    told = [[one.here.verdict for one in judge(registry, *given)] for given in (
        (blocks, results), (both_blocks, both_results),
    )]  # fmt: skip
    assert told[0] == told[1]
    assert "supported" in told[0]


def test_ranking_within_ranks_is_a_variant_in_our_arm_and_the_published_scan_in_its_own(tmp_path: Path) -> None:
    options = {"redundant_share": 0.35, "ill_matched_share": 0.35, "rank_within": "rank"}
    records = runs("scan", [0.5], options=options)
    arm = trained(runs("scan", [0.5], options=options), **published.TRAIN["moco"])
    for one in (*records, *arm):
        one["framework"] = "moco"
    results, _ = read(tmp_path, *records, *arm)
    assert sorted(is_published_scan(run) for run in results.runs) == [False, True]
