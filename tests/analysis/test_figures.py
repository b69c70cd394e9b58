"""What the figures show: the rows of the CSV beside each are those of the records, drawn at a paper's widths."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from report_trees import epochs, metric, put, record

from analysis.blocks.block import Block, build_blocks
from analysis.claims.registry import read_claims
from analysis.figures import data
from analysis.figures.differences import Arm, Panel, Words, draw_differences, signed
from analysis.figures.style import SOFT, looks
from analysis.page.headline import Headline
from analysis.page.turned import draw_turned
from analysis.read.methods import family_of
from analysis.read.results import load
from analysis.report import main

T_975_2 = 4.302652729
BOTH = {"redundant_share": 1, "ill_matched_share": 1}


def config(name: str, **options: Any) -> dict[str, Any]:
    return {**record()["config"], "pruner": {"name": name, "options": options}}


def run(method: str, seed: int, value: float, seen: int, **changes: Any) -> dict[str, Any]:
    kept = changes.pop("kept", [seen // 4] * 4)
    training = {"samples_seen": seen, "pruning_rate": 1 - seen / 4000, "by_epoch": epochs(kept)}
    named = {"metrics": [metric(value, task="zero_shot", protocol="zero_shot.v1")], "training": training}
    if "config" not in changes:
        changes["config"] = config(method.partition("(")[0])
    return record(method, seed, **named, **changes)


def some(results: Path, seeds: int = 3) -> Path:
    """Full, SCAN with its control, and random_subset at two budgets; SCAN visits all in every other epoch."""
    for seed in range(seeds):
        shift = 0.01 * seed
        put(
            results,
            run("full", seed, 0.60 + shift, 4000),
            run("scan", seed, 0.60 + shift + 0.001 * seed, 2800, kept=[1000, 400, 1000, 400]),
            run("scan_random", seed, 0.59 + shift, 2800, kept=[1000, 400, 1000, 400]),
        )
        for keep, seen, value in ((0.7, 2800, 0.55), (0.3, 1200, 0.40)):
            options = config("random_subset", keep_fraction=keep)
            put(
                results,
                run(f"random_subset(keep_fraction={keep})", seed, value + 0.02 * seed, seen, config=options),
            )
    return results


def block_of(results: Path) -> Block:
    (block,) = build_blocks(load(results))
    return block


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of ``some`` results."""
    folder = tmp_path_factory.mktemp("figures")
    assert main(["--results", str(some(folder / "results")), "--out", str(folder / "report")]) == 0
    return folder / "report"


def drawn(report: Path, ending: str) -> list[dict[str, str]]:
    """The rows of the figure whose name ends so."""
    (path,) = report.glob(f"figures/*{ending}.csv")
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.mark.slow
def test_the_lead_figure_holds_paired_differences_with_t_intervals(report: Path) -> None:
    rows = {row["method"]: row for row in drawn(report, "00-lead")}
    assert list(rows) == ["scan", "scan_random", "random_subset"]  # at the budget nearest to SCAN's
    low = rows["random_subset"]  # −5, −4 and −3 points
    assert (float(low["points"]), low["n"], float(low["pruned"])) == (pytest.approx(-4), "3", pytest.approx(30))
    assert float(low["ci95_low"]) == pytest.approx(-4 - T_975_2 / 3**0.5)
    assert rows["scan_random"]["ci95_low"] == "", "seeds that are all equal settle nothing"


@pytest.mark.slow
def test_figures_come_as_vectors_with_whole_fonts_at_the_widths_of_columns(report: Path) -> None:
    for name, inches in (("00-lead", 6.9), ("00-lead-column", 3.3)):
        pdf = (report / f"figures/{name}.pdf").read_bytes()
        box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", pdf)
        assert box
        assert float(box[1]) == pytest.approx(72 * inches)
        assert b"/FontFile2" in pdf
        assert b"/Type3" not in pdf
        assert (report / f"figures/{name}.svg").is_file()


@pytest.mark.slow
def test_no_raw_name_stands_in_a_figure(report: Path) -> None:
    for path in report.glob("figures/*.svg"):
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))
        assert texts
        assert not [text for text in texts if re.search(r"zero_shot|scan_random|keep_fraction|top1", text)], path


@pytest.mark.slow
def test_losses_are_drawn_of_epochs_that_visit_the_whole_pool_alone(report: Path) -> None:
    found: dict[str, list[str]] = {}
    for row in drawn(report, "-loss"):
        found.setdefault(row["method"], []).append(row["epoch"])
    assert found == {"full": ["1", "2", "3", "4"], "scan": ["1", "3"], "scan_random": ["1", "3"]}
    kept = [row for row in drawn(report, "-kept") if row["method"] == "scan"]
    assert [float(row["mean"]) for row in kept] == [100, 40, 100, 40]


@pytest.mark.slow
def test_values_stand_at_the_samples_seen_with_their_intervals(report: Path) -> None:
    rows = {row["method"]: row for row in drawn(report, "00-samples")}
    low = rows["random_subset(keep_fraction=0.3)"]  # 40, 42 and 44 %
    assert (float(low["seen"]), float(low["percent"])) == (pytest.approx(30), pytest.approx(42))
    assert float(low["ci95_high"]) == pytest.approx(42 + T_975_2 * 2 / 3**0.5)


@pytest.mark.slow
def test_a_method_at_two_budgets_is_a_line(report: Path) -> None:
    rows = drawn(report, "00-coresets")
    assert [(row["method"], float(row["x"])) for row in rows] == [
        ("random_subset", pytest.approx(30)),
        ("random_subset", pytest.approx(70)),
    ]
    assert not (report / "figures/00-dose.csv").exists()


def test_noise_is_a_line_from_the_clean_pool_to_the_planted_one(tmp_path: Path) -> None:
    for seed in range(2):
        for method, clean, noisy in (("full", 0.6, 0.5), ("scan", 0.6, 0.55)):
            for share, value in ((0.0, clean), (0.3, noisy)):
                pool = {"name": "shapes", "options": {"plant": {"swapped_captions": share, "seed": 0}}}
                told = {"pool": f"shapes-{share}", "pool_facts": {"num_samples": 1000, "fingerprint": f"f{share}"}}
                told["pool_facts"]["skipped"] = {}
                name = f"{method}-{share}-{seed}"
                put(
                    tmp_path,
                    run(method, seed, value, 4000, run=name, config={**config(method), "pool": pool}, **told),
                )
    blocks = build_blocks(load(tmp_path))
    appearance = looks(["full", "scan"], "full")
    (figure,) = draw_turned(read_claims(), blocks, appearance)
    assert figure.name == "00-noise"
    assert [(row["x"], round(float(str(row["points"])), 6)) for row in figure.data] == [(0.0, 0.0), (30.0, 5.0)]


def test_two_seeds_are_two_points_and_no_interval() -> None:
    effect = data.effect_of([0.01, 0.03])
    assert effect is not None
    assert (effect.interval, effect.points, effect.mean) == (None, (1.0, 3.0), 2.0)


def test_the_average_over_configurations_is_taken_seed_by_seed(tmp_path: Path) -> None:
    for model, gains in (("a", (0.01, 0.03, 0.02)), ("b", (0.03, 0.05, 0.04))):
        for seed, gain in enumerate(gains):
            put(tmp_path, run("full", seed, 0.5, 4000, model=model, run=f"{model}-{seed}"))
            put(tmp_path, run("scan", seed, 0.5 + gain, 2800, model=model, run=f"{model}-scan-{seed}"))
    headline = Headline.of(read_claims(), build_blocks(load(tmp_path)))
    (arm,) = headline.arms
    effect = arm.average
    assert effect is not None
    assert (effect.n, effect.configurations, effect.mean) == (3, 2, pytest.approx(3.0))  # 2, 4 and 3 points
    assert effect.interval == (pytest.approx(3 - T_975_2 / 3**0.5), pytest.approx(3 + T_975_2 / 3**0.5))
    assert headline.sentences[0].startswith("SCAN saw 70 % of the samples and gained 3.0 points against full data")


def test_an_interval_that_leaves_the_scale_says_how_far_it_goes() -> None:
    arms = [Arm("scan", "SCAN", looks(["scan"], "full")["scan"])]
    near = data.Effect(3, 0.5, (0.1, 0.9), (0.5,))
    far = data.Effect(3, -1.0, (-80.0, 78.0), (-1.0,))
    shown = [Panel("average", {"scan": [near]}), Panel("one", {"scan": [far]})]
    figure = draw_differences(Words("x", "t", "c."), arms, shown, margin=1)
    assert ">−80<" in figure.svg.decode()
    assert ">+78<" in figure.svg.decode()
    assert "An arrow" in figure.caption
    assert "An arrow" not in draw_differences(Words("x", "t", "c."), arms, shown[:1], margin=1).caption


def test_scan_and_its_control_are_strong_and_others_grey_with_marks_of_their_own() -> None:
    found = looks(["semdedup", "scan", "scan_random", "density", "infobatch"], "full")
    strong = {name for name, look in found.items() if look.is_strong}
    assert strong == {"full", "scan", "scan_random"}
    assert {look.colour for name, look in found.items() if name not in strong} == {SOFT}
    assert len({(look.colour, look.marker) for look in found.values()}) == len(found)


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
)
def test_methods_that_differ_in_their_budget_alone_are_a_family(
    method: str, options: dict[str, Any], family: str
) -> None:
    assert family_of(record(method, config=config("any", **options))) == family


def test_numbers_of_an_axis_have_a_real_minus_and_their_sign() -> None:
    assert [signed(value) for value in (-0.5, 0.0, 2.0)] == ["−0.5", "0", "+2"]
