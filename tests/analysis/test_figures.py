"""What the figures show: the rows of the CSV beside each are those of the records, marks stand where they must."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from report_trees import epochs, metric, put, record

from analysis.blocks.block import Block, build_blocks
from analysis.figures import data
from analysis.read.methods import family_of
from analysis.read.results import load
from analysis.report import main

T_975_1 = 12.706204736
BOTH = {"redundant_share": 1, "ill_matched_share": 1}


def config(name: str, **options: Any) -> dict[str, Any]:
    return {**record()["config"], "pruner": {"name": name, "options": options}}


def run(method: str, seed: int, value: float, seen: int, seconds: float = 100.0, **changes: Any) -> dict[str, Any]:
    training = {
        "samples_seen": seen,
        "pruning_rate": 1 - seen / 4000,
        "seconds": seconds,
        "by_epoch": epochs([seen // 4] * 4),
    }
    return record(method, seed, metrics=[metric(value)], training=training, **changes)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Full, scan, and random_subset at two budgets; two seeds each; scan is as good as full with less."""
    folder = tmp_path / "results"
    for seed in range(2):
        shift = 0.01 * seed
        put(
            folder,
            run("full", seed, 0.60 + shift, 4000, 200.0),
            run("scan", seed, 0.60 + shift, 2800, 150.0),
            run(
                "random(keep_fraction=0.7)",
                seed,
                0.55 + shift,
                2800,
                120.0,
                config=config("random", keep_fraction=0.7),
            ),
            run("random(keep_fraction=0.3)", seed, 0.40, 1200, 60.0, config=config("random", keep_fraction=0.3)),
        )
    return folder


def block_of(results: Path) -> Block:
    (block,) = build_blocks(load(results))
    return block


def drawn(results: Path, ending: str) -> list[dict[str, str]]:
    """The rows of the figures whose name ends so."""
    out = results.parent / "report"
    assert main(["--results", str(results), "--out", str(out)]) == 0
    (path,) = out.glob(f"figures/*{ending}.csv")
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.mark.slow
def test_points_are_means_of_the_records_and_the_front_is_marked(results: Path) -> None:
    rows = {row["method"]: row for row in drawn(results, "-samples")}
    assert {name: (float(row["x"]), round(float(row["percent"]), 6), row["n"]) for name, row in rows.items()} == {
        "full": (4000.0, 60.5, "2"),
        "scan": (2800.0, 60.5, "2"),
        "random(keep_fraction=0.7)": (2800.0, 55.5, "2"),
        "random(keep_fraction=0.3)": (1200.0, 40.0, "2"),
    }
    assert [name for name, row in rows.items() if row["on_front"] == "True"] == [
        "random(keep_fraction=0.3)",
        "scan",
    ]


@pytest.mark.slow
def test_the_page_says_which_methods_are_on_the_front(results: Path) -> None:
    drawn(results, "-seconds")
    page = (results.parent / "report/index.html").read_text(encoding="utf-8")
    assert "On the front of the means: random(keep_fraction=0.3), random(keep_fraction=0.7), scan." in page


def test_two_equal_points_are_both_on_the_front(tmp_path: Path) -> None:
    put(tmp_path, run("full", 0, 0.6, 4000), run("a", 0, 0.6, 4000), run("b", 0, 0.5, 4000))
    block = block_of(tmp_path)
    found = data.points(block, block.columns[0], "samples_seen")
    assert {p.method: p.on_front for p in found} == {"full": True, "a": True, "b": False}


def test_seconds_of_another_device_are_left_out_and_told(tmp_path: Path) -> None:
    put(tmp_path, run("full", 0, 0.6, 4000), run("a", 0, 0.6, 3000), run("b", 0, 0.6, 3000, device="faster"))
    block = block_of(tmp_path)
    assert {p.method for p in data.points(block, block.columns[0], "seconds")} == {"full", "a"}
    assert {p.method for p in data.points(block, block.columns[0], "samples_seen")} == {"full", "a", "b"}
    assert "1 on other devices are left out" in data.left_out_devices(block)


@pytest.mark.slow
def test_a_family_is_a_line_over_its_measured_pruning_rates(results: Path) -> None:
    rows = [row for row in drawn(results, "-budgets") if row["family"] == "random"]
    assert sorted((float(row["pruned"]), float(row["percent"]), row["n"]) for row in rows) == [
        (pytest.approx(30.0), pytest.approx(55.5), "2"),
        (pytest.approx(70.0), pytest.approx(40.0), "2"),
    ]
    block = block_of(results)
    assert list(data.lines(data.points(block, block.columns[0], "pruning_rate"))) == ["random"]


@pytest.mark.slow
def test_one_budget_makes_no_figure_over_budgets(tmp_path: Path) -> None:
    put(tmp_path / "results", run("full", 0, 0.6, 4000), run("scan", 0, 0.6, 2800))
    assert main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "report")]) == 0
    assert not list(tmp_path.glob("report/figures/*budgets*"))


@pytest.mark.parametrize(
    ("method", "options", "family"),
    [
        ("semdedup(keep_fraction=0.3)", {"keep_fraction": 0.3, "keep": "hard"}, "semdedup"),
        ("coreset(runs=scan, keep_fraction=0.3)", {"keep_fraction": 0.3}, "coreset(runs=scan)"),
        ("a(keep_fraction=0.3, keep=easy)", {"keep_fraction": 0.3}, "a(keep=easy)"),
        ("scan(redundant_share=0.2, cycle=4)", {"redundant_share": 0.2, "cycle": 4}, "scan(cycle=4)"),
        ("scan(redundant_share=1, ill_matched_share=1)", BOTH, "scan"),
        ("scan(cycle=4)", {"cycle": 4}, "scan(cycle=4)"),
        ("infobatch", {"prune_ratio": 0.5}, "infobatch"),
    ],
)  # fmt: skip
def test_methods_that_differ_in_their_budget_alone_are_a_family(
    method: str, options: dict[str, Any], family: str
) -> None:
    assert family_of(record(method, config=config("any", **options))) == family


@pytest.mark.slow
def test_curves_are_those_of_the_records(results: Path) -> None:
    kept = [row for row in drawn(results, "-kept") if row["method"] == "scan"]
    assert [(row["epoch"], float(row["mean"]), row["n"]) for row in kept] == [
        (str(epoch), pytest.approx(70.0), "2") for epoch in (1, 2, 3, 4)
    ]


@pytest.mark.slow
def test_learning_rates_that_run_alike_are_one_curve(results: Path) -> None:
    assert {row["method"] for row in drawn(results, "-lr")} == {"all methods, within 3 %"}
    other = run("jump", 0, 0.6, 4000)
    for epoch in other["training"]["by_epoch"]:
        epoch["lr"] *= 1.5
    put(results, other)
    assert {row["method"] for row in drawn(results, "-lr")} >= {"full", "jump"}


@pytest.mark.slow
def test_differences_are_paired_with_a_t_interval_over_seeds(results: Path) -> None:
    rows = {row["method"]: row for row in drawn(results, "-differences")}
    assert "full" not in rows
    low = rows["random(keep_fraction=0.3)"]  # -20 and -21 points
    assert (float(low["points"]), low["n"]) == (pytest.approx(-20.5), "2")
    assert float(low["ci95_low"]) == pytest.approx(-20.5 - T_975_1 * 0.5)


def test_the_average_over_configurations_is_taken_seed_by_seed(tmp_path: Path) -> None:
    for model, gains in (("a", (0.01, 0.03)), ("b", (0.03, 0.05))):
        for seed, gain in enumerate(gains):
            named = {"model": model, "run": f"{model}-{seed}"}
            put(tmp_path, run("full", seed, 0.5, 4000, **named))
            put(tmp_path, run("scan", seed, 0.5 + gain, 2800, **{**named, "run": f"{model}-scan-{seed}"}))
    blocks = build_blocks(load(tmp_path))
    (effect,) = data.average_effects(blocks, blocks[0].columns[0])
    assert (effect.method, effect.configurations, effect.difference.n) == ("scan", 2, 2)
    assert effect.difference.mean == pytest.approx(3.0)  # seed 0: 2 points, seed 1: 4
    assert effect.difference.ci95 == (pytest.approx(3 - T_975_1 * 1.0), pytest.approx(3 + T_975_1 * 1.0))


@pytest.mark.slow
def test_configurations_of_one_pool_share_their_figures(tmp_path: Path) -> None:
    for model in "abc":
        put(
            tmp_path / "results",
            *(run(m, 0, 0.5, 4000, model=model, run=f"{model}-{m}") for m in ("full", "scan")),
        )
    rows = drawn(tmp_path / "results", "-samples")
    assert {row["panel"] for row in rows} == {"a", "b", "c"}
    assert {row["configurations"] for row in drawn(tmp_path / "results", "-differences")} == {"3"}
