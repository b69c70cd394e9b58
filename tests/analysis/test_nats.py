"""InfoNCE beside fractions: it is told in nats, less is better, and enters nothing that is in percent."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from report_trees import metric, put, put_foreign, record

from analysis.blocks.block import build_blocks
from analysis.blocks.words import row_cells
from analysis.claims.judge import judge
from analysis.claims.registry import read_claims
from analysis.figures.sections import headlines
from analysis.page.drawn import Figures
from analysis.read.results import Results, load
from analysis.report import main
from analysis.tables.paper import headline_columns

INFONCE = {
    "task": "retrieval",
    "dataset": "emoji",
    "metric": "image_to_text_infonce",
    "protocol": "retrieval.infonce_own_temperature.v1",
}


def row(value: float) -> dict[str, Any]:
    return metric(value, ci95=(value - 0.25, value + 0.25), **INFONCE)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder, noise = tmp_path / "results", (0.0, 0.01, -0.01)
    for seed in range(3):
        put(
            folder,
            record("full", seed, metrics=[metric(0.6), row(3.0)]),
            record("scan", seed, metrics=[metric(0.6), row(2.5 + noise[seed])]),
            record("random_subset", seed, metrics=[metric(0.6), row(3.5 + 2 * noise[seed])]),
        )
    return folder


def test_tables_tell_nats_and_the_lower_of_two_is_the_best(results: Path) -> None:
    (block,) = build_blocks(load(results))
    place = next(i for i, column in enumerate(block.columns) if column.is_nats)
    cells = {one.method: row_cells(one, block)[3 + place] for one in block.rows}
    assert cells["scan"].first_line == "2.500 (sd 0.010, n = 3)"
    assert cells["scan"].lines == ("Δ −0.500 [−0.525, −0.475] (n = 3)",)
    assert [method for method, cell in cells.items() if cell.is_best] == ["scan"]


def test_nats_are_in_no_figure_and_in_no_table_of_percent(results: Path) -> None:
    (block,) = build_blocks(load(results))
    assert [column.metric for column in headlines(block)] == ["top1"]
    assert [column.metric for column in headline_columns(block)] == ["top1"]


def test_the_report_names_the_unit_and_keeps_raw_values(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.page.drawn.draw", lambda *_: Figures())
    put_foreign(results, metrics=[row(4.125)])
    out = tmp_path / "report"
    assert main(["--results", str(results), "--out", str(out)]) == 0
    told = (out / "tables/main.md").read_text(encoding="utf-8")
    assert "image_to_text_infonce, nats, also Δ; less is better" in told
    assert "| 4.125 nats | [3.875, 4.375] |" in told
    assert "250.0" not in told
    assert ",2.5," in (out / "tables/main.csv").read_text(encoding="utf-8")


def test_more_measures_of_retrieval_change_no_verdict_on_the_committed_records() -> None:
    found, registry = load(Path("results")), read_claims()
    more = with_more_measures(found)
    before, after = (judge(registry, build_blocks(one), one) for one in (found, more))
    assert [told(one) for one in before] == [told(one) for one in after]
    added = {column.metric for block in build_blocks(more) for column in block.columns}
    assert {"image_to_text_mrr", "text_to_image_infonce"} <= added


def with_more_measures(found: Results) -> Results:
    """Every recall at 1 gets a mean reciprocal rank and an InfoNCE beside it that would turn any average."""
    runs = []
    for run in found.runs:
        changed = copy.deepcopy(run.record)
        for one in run.record["metrics"]:
            if one["metric"].endswith("_r1"):
                direction, value = one["metric"].removesuffix("_r1"), 1 - one["value"]
                changed["metrics"] += [
                    one | {"metric": f"{direction}_mrr", "value": value},
                    one | {"metric": f"{direction}_infonce", "value": 9 * value, "protocol": INFONCE["protocol"]},
                ]
        runs.append(dataclasses.replace(run, record=changed))
    return dataclasses.replace(found, runs=runs)


def told(judged: Any) -> tuple[object, ...]:
    facts = [(f.verdict, f.told, f.n, f.mean, f.interval, f.covered) for f in (judged.at_paper, judged.here)]
    return judged.claim.id, *facts
