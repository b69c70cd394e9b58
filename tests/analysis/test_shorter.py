"""Full data trained for fewer epochs stands beside the longer runs it is to be compared with, and nowhere else."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from claim_trees import NOISE, read, run
from report_trees import plan, put

from analysis.blocks.block import Block, build_blocks
from analysis.blocks.rows import Row
from analysis.claims.finding import Judged
from analysis.claims.judge import judge
from analysis.claims.registry import read_claims
from analysis.read.results import Results, load
from analysis.report import main

SHORT = "full, 12 epochs"


def trained(
    epochs: int, name: str, seed: int, value: float, pruned: float = 0.0, **changes: Any
) -> dict[str, Any]:
    """A record of so many epochs; ``train`` among the changes adds options."""
    train = {"epochs": epochs, **changes.pop("train", {})}
    counts = {"epochs": epochs, "samples_full": 1000 * epochs, "samples_seen": round(1000 * epochs * (1 - pruned))}
    made = run(name, seed, value + NOISE[seed], pruned=pruned, training=counts, **changes)
    made["config"]["train"] |= train
    return {**made, "run": f"{made['run']}-{epochs}"}


def of_sixteen() -> list[dict[str, Any]]:
    """Full data and SCAN, three seeds each."""
    return [
        trained(16, name, seed, value, pruned)
        for name, value, pruned in (("full", 0.5, 0.0), ("scan", 0.5, 0.25))
        for seed in range(3)
    ]


def shorter(epochs: int = 12, **changes: Any) -> list[dict[str, Any]]:
    """Full data, of another sweep, one point worse."""
    return [trained(epochs, "full", seed, 0.49, sweep="shorter", **changes) for seed in range(3)]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def rows_of(block: Block) -> dict[str, Row]:
    return {row.method: row for row in block.rows}


def told(blocks: list[Block]) -> dict[str, list[str]]:
    """The methods of each block by what tells it from the others."""
    return {block.note: [row.method for row in block.rows] for block in blocks}


def verdicts(found: Results) -> list[Judged]:
    return judge(read_claims(), build_blocks(found), found)


def test_a_shorter_run_of_full_data_is_a_method_measured_against_the_longer_one(results: Path) -> None:
    _, (block,) = read(results, *of_sixteen(), *shorter())
    row = rows_of(block)[SHORT]
    (column,) = block.columns
    difference = row.cells[column].difference
    assert block.note == ""
    assert row.quantities["samples_seen"].spread.mean == 12_000  # type: ignore[union-attr]
    assert row.quantities["pruning_rate"].spread.mean == 0.25  # type: ignore[union-attr]
    assert difference is not None
    assert (difference.n, round(difference.mean, 9)) == (3, -0.01)
    assert rows_of(block)["full"].quantities["pruning_rate"].spread.mean == 0  # type: ignore[union-attr]


def test_it_stays_in_a_block_of_its_own_length_that_holds_more(results: Path) -> None:
    _, blocks = read(results, *of_sixteen(), *shorter(), trained(12, "scan", 0, 0.5, 0.25))
    assert told(blocks) == {"train.epochs = 12": ["full", "scan"], "train.epochs = 16": ["full", "scan", SHORT]}


def test_it_joins_each_longer_block_and_none_that_is_shorter(results: Path) -> None:
    longest = [trained(20, name, 0, 0.5) for name in ("full", "scan")]
    _, blocks = read(results, *of_sixteen(), *shorter(), *longest)
    assert told(blocks) == {
        "train.epochs = 16": ["full", "scan", SHORT],
        "train.epochs = 20": ["full", "scan", SHORT, "full, 16 epochs"],
    }
    rates = {row.method: row.runs[0].record["training"]["pruning_rate"] for row in blocks[1].rows}
    assert (rates[SHORT], rates["full, 16 epochs"]) == (pytest.approx(0.4), pytest.approx(0.2))


@pytest.mark.parametrize("changes", [{"train": {"warmup_epochs": 3}}, {"pool": "other"}, {"model": "other"}])
def test_what_differs_in_more_than_its_length_stays_apart(changes: dict[str, Any], results: Path) -> None:
    _, blocks = read(results, *of_sixteen(), *shorter(**changes))
    assert sorted([row.method for row in block.rows] for block in blocks) == [["full"], ["full", "scan"]]


def test_other_methods_of_another_length_stay_apart(results: Path) -> None:
    _, blocks = read(results, *of_sixteen(), trained(12, "scan", 0, 0.5, 0.25))
    assert told(blocks) == {"train.epochs = 12": ["scan"], "train.epochs = 16": ["full", "scan"]}


def test_it_is_no_reference_where_full_data_is_missing(results: Path) -> None:
    scan = [one for one in of_sixteen() if one["method"] == "scan"]
    found, (block,) = read(results, *scan, *shorter())
    assert rows_of(block)["scan"].cells[block.columns[0]].difference is None
    assert {one.claim.id: one.here.verdict for one in verdicts(found)}["small-loss"] == "no records"


def planned(results: Path, *runs: dict[str, Any], has_config: bool) -> list[Block]:
    """The blocks of the runs of 16 epochs and of planned ones of another sweep."""
    put(results, *of_sixteen())
    plan(results, *runs, sweep="shorter")
    for one in runs if has_config else ():
        folder = results / "shorter" / one["run"]
        folder.mkdir()
        (folder / "config.yaml").write_text(json.dumps(one["config"]))
    return build_blocks(load(results))


def test_a_planned_one_is_missing_in_the_longer_block(results: Path) -> None:
    (block,) = planned(results, *shorter(), has_config=True)
    assert {row.method: len(row.missing) for row in block.rows} == {"full": 0, "scan": 0, SHORT: 3}


def test_planned_runs_of_unknown_training_keep_no_block(results: Path) -> None:
    put(results, *shorter())
    (block,) = planned(results, *[trained(16, "scan", seed, 0.5) for seed in (3, 4)], has_config=False)
    assert {row.method: len(row.missing) for row in block.rows} == {"full": 0, "scan": 2, SHORT: 0}


@pytest.mark.slow
def test_tables_and_figures_name_it_by_its_length(results: Path) -> None:
    put(results, *of_sixteen(), *shorter())
    out = results.parent / "report"
    assert main(["--results", str(results), "--out", str(out)]) == 0
    main_table = (out / "tables/main.md").read_text(encoding="utf-8")
    assert f"| {SHORT} | 25.0 (sd 0.0, n = 3) | 12,000 (sd 0, n = 3) |" in main_table
    assert "\n16 epochs; pool" in main_table
    paper = (out / "tables/paper.md").read_text(encoding="utf-8")
    cost = paper[paper.index("· cost on") :]
    assert f"| {SHORT} | 25.0" in cost
    path = out / "figures/00-samples.csv"
    points = {row["method"]: row for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())}
    assert points[SHORT]["family"] == points["full"]["family"]  # a line from one to the other
    assert float(points[SHORT]["seen"]) == 75
    assert "Line: full data trained for less." in (out / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("sweep", ["mini_main", "quickstart", "quickstart_methods", "quickstart_coresets"])
def test_verdicts_on_committed_results_are_the_same_with_shorter_runs_beside_them(sweep: str) -> None:
    found = load(Path("results"), [sweep])
    added = []
    for one in found.runs:
        if one.record["method"] == "full":
            config = one.record["config"]
            train = {**config["train"], "epochs": config["train"]["epochs"] - 1}
            added.append(replace(one, record={**one.record, "config": {**config, "train": train}}))
    beside = replace(found, runs=(*added, *found.runs))
    assert [block.title for block in build_blocks(beside)] == [block.title for block in build_blocks(found)]
    assert all(
        any(row.method.startswith("full, ") for row in block.rows) for block in build_blocks(beside) if block.runs
    )
    assert verdicts(beside) == verdicts(found)
