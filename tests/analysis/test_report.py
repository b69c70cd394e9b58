"""The report over small trees of synthetic results: what is shown, what is missing, what is escaped."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import patience
from report_trees import COMMAND, epochs, fail, metric, plan, put, put_foreign, record

from analysis.page.drawn import Figures
from analysis.report import main

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = '<script>alert("x")</script>'


class Report:
    """The report of a tree: its texts, its exit status and what it said on stderr."""

    def __init__(self, tree: Path, capsys: pytest.CaptureFixture[str], *sweeps: str) -> None:
        self.out = tree.parent / "report"
        self.code = main(["--results", str(tree), "--out", str(self.out), *sweeps])
        self.stdout, self.stderr = capsys.readouterr()

    def read(self, name: str) -> str:
        return (self.out / name).read_text(encoding="utf-8")

    @property
    def words(self) -> str:
        """The page as a reader sees it: no tags, no script, single spaces."""
        page = re.sub(r"(?s)<(script|style)>.*?</\1>|<[^>]*>", "", self.read("index.html").replace("<wbr>", ""))
        return re.sub(r"\s+", " ", html.unescape(page))

    def table(self, name: str = "main") -> list[dict[str, str]]:
        return list(csv.DictReader(self.read(f"tables/{name}.csv").splitlines()))


@pytest.fixture
def drawn() -> None:
    """Asks for figures too, which take the report's time."""


@pytest.fixture(autouse=True)
def _draw_only_where_asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("analysis.page.drawn.draw", lambda *_: Figures())


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def truth(**changes: Any) -> dict[str, Any]:
    made = {"flag": "near_duplicate", "base_rate": 0.1, "precision": 0.25, "recall": 0.5, "auc": 0.3}
    return {**made, "candidates": {"redundant": 0.2}, **changes}


def tiny_sweep(results: Path) -> None:
    """Full and scan with two seeds, random_subset with one; scan's kept share swings."""
    pruned = {"samples_seen": 2800, "pruning_rate": 0.3, "seconds": 150.0}
    scan = {**pruned, "by_epoch": epochs([1000, 800, 600, 400])}
    runs = [
        record("full", 0, metrics=[metric(0.60), metric(0.30, task="knn", protocol="knn.v1")]),
        record("full", 1, metrics=[metric(0.61), metric(0.32, task="knn", protocol="knn.v1")]),
        record("scan", 0, metrics=[metric(0.58)], training=scan, pruning_truth=[truth()]),
        record("scan", 1, metrics=[metric(0.60)], training=scan, pruning_truth=[truth(precision=0.35)]),
        record("random_subset", 0, metrics=[metric(0.55)], training=pruned),
    ]
    absent, failed = record("random_subset", 1), record("random_subset", 2)
    put(results, *runs)
    plan(results, *runs, absent, failed)
    fail(results, failed, "CUDA out of memory\nsecond line")


def test_markdown_of_the_main_table(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_sweep(results)
    assert Report(results, capsys).read("tables/main.md") == (GOLDEN / "main.md").read_text(encoding="utf-8")


def test_missing_and_failed_runs_are_shown_with_the_command(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_sweep(results)
    report = Report(results, capsys)
    assert report.code == 0
    for text in (
        "5 records; 7 runs planned, 2 missing (1 failed, 1 not run)",
        "missing: seed 1 not run; seed 2 failed",
        "clip-vit-shapes-random_subset-s1-abc123",
        "failed: RuntimeError: CUDA out of memory",
        COMMAND,
    ):
        assert text in report.words
    assert "second line" not in report.words


@pytest.mark.slow
@pytest.mark.usefixtures("drawn")
def test_figures_and_tables_are_written_and_the_page_stands_alone(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_sweep(results)
    report = Report(results, capsys)
    for kind in ("kept", "loss", "samples", "pruned", "candidates"):
        for ending in ("png", "svg"):
            assert list(report.out.glob(f"figures/*-{kind}*.{ending}")), (kind, ending)
    page = report.read("index.html")
    assert page.count("<svg") > 5
    assert not re.findall(r'<img [^>]*src="(?!data:)', page)
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert str(report.out / "index.html") in report.stdout
    hrefs = re.findall(r'href="([^"#]+)"', page)
    assert any(href.endswith("record.json") for href in hrefs)
    assert [href for href in hrefs if not (report.out / href).is_file()] == []
    assert re.findall(r'href="#([^"]+)"', page)
    assert {a for a in re.findall(r'href="#([^"]+)"', page) if f'id="{a}"' not in page} == set()


@pytest.mark.slow
@pytest.mark.usefixtures("drawn")
def test_the_same_records_give_the_same_bytes(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_sweep(results)
    first = {p: p.read_bytes() for p in Report(results, capsys).out.rglob("*") if p.is_file()}
    second = {p: p.read_bytes() for p in Report(results, capsys).out.rglob("*") if p.is_file()}
    assert first == second


def test_no_number_of_the_main_table_stands_without_its_seed_count(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_sweep(results)
    rows = [line for line in Report(results, capsys).read("tables/main.md").splitlines() if "<br>" in line]
    cells = [cell for row in rows for cell in row.split("|")[2:-1]]
    assert cells
    assert all("n = " in cell or cell.strip().startswith("missing") for cell in cells)


def test_one_seed_has_no_seed_interval_and_names_the_interval_over_items(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(results, record("full", 0), record("scan", 0, metrics=[metric(0.58)]))
    report = Report(results, capsys)
    assert "n = 1 seeds where a cell does not say another" in report.words
    assert "58.0over test items [55.0, 61.0]Δ −2.0" in re.sub(r"(?<=[\d\])]) (?=over|Δ)", "", report.words)
    row = next(r for r in report.table() if r["method"] == "scan" and r["metric"] == "top1")
    assert (row["n"], row["sd"], row["difference_ci95_low"]) == ("1", "", "")


def test_csv_holds_raw_fractions_and_the_paired_difference(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_sweep(results)
    report = Report(results, capsys)
    row = next(r for r in report.table() if r["method"] == "scan" and r["metric"] == "top1")
    assert float(row["mean"]) == pytest.approx(0.59)
    assert float(row["difference"]) == pytest.approx(-0.015)
    assert float(row["difference_ci95_high"]) == pytest.approx(-0.015 + 12.706204736 * 0.005)
    ratio = next(r for r in report.table() if r["method"] == "scan" and r["metric"] == "seconds")
    assert (float(ratio["ratio"]), ratio["ratio_n"]) == (pytest.approx(0.75), "2")
    assert sorted(float(r["value"]) for r in report.table("values") if r["method"] == "scan") == [0.58, 0.60]
    precision = next(r for r in report.table("truth") if r["share"] == "precision")
    assert (float(precision["mean"]), precision["n"]) == (pytest.approx(0.3), "2")


def test_precision_and_recall_on_planted_truth_stand_beside_chance(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = {"random_precision": 0.1, "random_recall": 0.3}
    static = truth(precision=0.25, recall=0.75, auc=None, candidates={}, **chance)
    put(results, record("semdedup", 0, pruning_truth=[static]), record("semdedup", 1, pruning_truth=[static]))
    put(results, record("scan", 0, pruning_truth=[truth()]))  # from before chance was counted
    report = Report(results, capsys)
    told = "| 25.0 (sd 0.0, n = 2)<br>random 10.0 | 75.0 (sd 0.0, n = 2)<br>random 30.0 | none | no candidates |"
    assert f"| semdedup: near_duplicate | 10.0 (sd 0.0, n = 2) {told}" in report.read("tables/truth.md")
    assert "| scan: near_duplicate | 10.0 (n = 1) | 25.0 (n = 1) | 50.0 (n = 1) | 30.0 (n = 1) |" in report.read(
        "tables/truth.md"
    )
    for line in ("random 10.0", "random 30.0", "redundant_copy does not ask which of them goes"):
        assert line in report.words
    shares = {row["share"]: row["mean"] for row in report.table("truth") if row["method"] == "semdedup"}
    assert (float(shares["random_precision"]), float(shares["random_recall"])) == (0.1, 0.3)


def test_seconds_on_another_device_have_no_ratio(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(results, record("full", 0), record("scan", 0, device="other"))
    assert "of full" not in Report(results, capsys).read("tables/main.md")


def test_two_protocols_make_two_columns(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(
        results,
        record("full", 0, metrics=[metric(0.5, protocol="linear_probe.v1")]),
        record("full", 1, metrics=[metric(0.9, protocol="linear_probe.v2")]),
    )
    rows = [row for row in Report(results, capsys).table() if row["metric"] == "top1"]
    assert [(row["protocol"], row["n"], row["mean"]) for row in rows] == [
        ("linear_probe.v1", "1", "0.5"),
        ("linear_probe.v2", "1", "0.9"),
    ]
    assert "seed 1 not measured this way" in rows[0]["absent"]


def test_two_versions_of_a_protocol_are_never_compared(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        old, new = metric(0.5, protocol="linear_probe.v1"), metric(0.9, protocol="linear_probe.v2")
        put(results, record("full", seed, metrics=[old]), record("scan", seed, metrics=[new]))
        put(results, record("random_subset", seed, metrics=[old]))
    report = Report(results, capsys)
    cells = {(r["method"], r["protocol"]): r for r in report.table() if r["metric"] == "top1"}
    assert {key: cell["mean"] for key, cell in cells.items() if cell["mean"]} == {
        ("full", "linear_probe.v1"): "0.5",
        ("scan", "linear_probe.v2"): "0.9",
        ("random_subset", "linear_probe.v1"): "0.5",
    }
    assert all(cell["difference"] == "" for key, cell in cells.items() if key[0] == "scan"), "no Δ over versions"
    assert cells["random_subset", "linear_probe.v1"]["difference"] == "0.0"
    notice = (
        "linear_probe shapes top1 was measured by 2 protocols (linear_probe.v1, linear_probe.v2): a column each,"
        " never compared or averaged with one another"
    )
    assert notice in report.words
    head = next(line for line in report.read("tables/main.md").splitlines() if line.startswith("| method"))
    assert head.count("linear_probe.v1, 1,000 items") == head.count("linear_probe.v2, 1,000 items") == 1


def test_one_protocol_gets_no_notice(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(results, record("full", 0), record("scan", 0))
    assert "protocols (" not in Report(results, capsys).words


def test_a_skipped_task_is_the_reason_of_its_own_data_set_alone(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    knn = [metric(0.3, task="knn", dataset=name, protocol="knn.v1") for name in ("emoji-category", "digits")]
    reason = {"task": "knn", "reason": "emoji is not here", "options": {"dataset": {"emoji": {}}}}
    put(results, record("full", 0, metrics=knn), record("full", 1, metrics=[], evaluation_skipped=[reason]))
    absent = {row["dataset"]: row["absent"] for row in Report(results, capsys).table() if row["task"] == "knn"}
    assert absent == {
        "emoji-category": "seed 1 emoji is not here",
        "digits": "seed 1 not measured this way",
    }


def test_another_evaluation_in_one_record_parts_no_column(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probe = {"name": "linear_probe", "options": {"dataset": {"emoji": {}}, "shots": 5}}
    other = {"name": "linear_probe", "options": {"dataset": "digits", "shots": 1}}
    runs = [record("full", seed, metrics=[metric(0.5, dataset="emoji-category")]) for seed in (0, 1)]
    runs[0]["config"]["evaluate"] = [probe]
    runs[1]["config"]["evaluate"] = [probe, other]
    put(results, *runs)
    assert [row["n"] for row in Report(results, capsys).table() if row["metric"] == "top1"] == ["2"]


def test_models_not_trained_here_have_a_section_of_their_own(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(results, record("full", 0))
    skipped = [{"task": "retrieval", "reason": "emoji is not here"}]
    put_foreign(results, metrics=[metric(0.876, n=123)], evaluation_skipped=skipped, pretrained=HOSTILE)
    (results / "evaluations" / "broken").mkdir()
    (results / "evaluations" / "broken" / "evaluation.json").write_text('{"schema": 1}')
    report = Report(results, capsys)
    assert report.code == 0
    assert "Models not trained here" in report.words
    assert "skipped: emoji is not here" in report.words
    assert HOSTILE not in report.read("index.html")
    assert "87.6" not in report.read("tables/main.html"), "in no main table"
    assert "| 87.6 | [84.6, 90.6] | 123 |" in report.read("tables/main.md")
    (row,) = report.table("foreign")
    assert (row["model"], row["value"], row["test_items"]) == ("ViT-B-32", "0.876", "123")
    assert "is a required property" in report.stderr
    assert "1 records, 0 missing runs" in report.stdout


def test_evaluations_alone_make_a_report(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_foreign(results)
    report = Report(results, capsys)
    assert report.code == 0
    assert "ViT-B-32 (openai)" in report.words


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": [metric(0.9, n=50)]},
        {"config": {"train": {"epochs": 9}, "model": {}, "evaluate": []}},
        {"pool_facts": {"num_samples": 900, "fingerprint": "other", "skipped": {}}},
    ],
    ids=["test set", "training options", "pool"],
)
def test_what_was_not_made_alike_is_not_averaged(
    changes: dict[str, Any], results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(results, record("full", 0), record("full", 1, **changes))
    rows = [row for row in Report(results, capsys).table() if row["metric"] == "top1"]
    assert [row["n"] for row in rows] == ["1", "1"]


def test_loader_workers_do_not_part_a_table(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = record("full", 1)
    other["config"]["train"]["num_workers"] = 7
    put(results, record("full", 0), other)
    assert [row["n"] for row in Report(results, capsys).table() if row["metric"] == "top1"] == ["2"]


def test_a_run_of_two_sweeps_counts_once(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = record("full", 0, sweep="other", finished="2025-02-01T00:00:00+00:00", metrics=[metric(0.62)])
    put(results, record("full", 0), again)
    row = next(row for row in Report(results, capsys).table() if row["metric"] == "top1")
    assert (row["n"], row["mean"]) == ("1", "0.62")


def test_best_is_marked_where_a_paired_test_says_so(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = (0.0, 0.01, -0.01)
    put(
        results,
        *(record("scan", seed, metrics=[metric(0.6 + noise[seed])]) for seed in range(3)),
        *(record("random_subset", seed, metrics=[metric(0.5 + 1.1 * noise[seed])]) for seed in range(3)),
        *(record("full", seed, metrics=[metric(0.7)]) for seed in range(3)),
    )
    best = [row["method"] for row in Report(results, capsys).table() if row["is_best"] == "True"]
    assert best == ["scan"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps({"schema": 2}), "record of schema 2"),
        ("{ half a rec", "not JSON"),
        (json.dumps({"hello": 1}), "record of schema none"),
        ("[1, 2]", "is not of type 'object'"),
        (json.dumps(record(metrics=[metric(0.5) | {"value": float("nan")}])), "NaN is no number"),
    ],
    ids=["schema 2", "half", "foreign", "list", "NaN"],
)
def test_a_record_that_cannot_be_used_is_named_and_the_report_is_made(
    content: str, said: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = record("full", 0), record("full", 1)
    put(results, good)
    plan(results, good, bad)
    path = results / "tiny" / bad["run"] / "record.json"
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")
    report = Report(results, capsys)
    assert report.code == 0
    assert str(path) in report.stderr
    assert said in report.stderr
    assert said in report.words
    assert "seed 1 unreadable record" in report.words


def test_a_sweep_without_a_plan_and_runs_outside_the_plan_are_reported(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(results, record("full", 0), record("scan", 0))
    fail(results, record("other", 0), "no plan knows me")
    assert "scan" in Report(results, capsys).words
    plan(results, record("full", 0))
    report = Report(results, capsys)
    assert "0 (not in the plan)" in report.words
    assert "failed: RuntimeError: no plan knows me" in report.words


def test_a_pass_over_features_is_no_missing_run(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = results / "tiny" / "features-vit-shapes-s0-abc123"
    put(results, record("full", 0))
    folder.mkdir()
    (folder / "config.yaml").write_text("kind: features\nframework: clip\n", encoding="utf-8")
    report = Report(results, capsys)
    assert folder.name not in report.words
    assert report.stdout.startswith("1 records, 0 missing runs")


def test_a_broken_plan_is_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(results, record("full", 0))
    (results / "tiny" / "plan.json").write_text('{"runs": [{"run": "../../etc"}]}')
    report = Report(results, capsys)
    assert (report.code, "is not the name of a folder" in report.stderr) == (0, True)


def test_a_run_with_a_checkpoint_is_partial(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = record("full", 0)
    plan(results, run)
    (results / "tiny" / run["run"]).mkdir()
    checkpoint = results / "tiny" / run["run"] / "checkpoint" / "step-000000001.sha256"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    assert "1 missing (1 partial)" in Report(results, capsys).words


@pytest.mark.slow
@pytest.mark.usefixtures("drawn")
def test_text_of_records_is_escaped(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = {"model": HOSTILE, "pool": HOSTILE, "device": HOSTILE, "versions": {"torch": HOSTILE}}
    hostile = record(HOSTILE, 0, run="r", **named, metrics=[metric(0.5, dataset=HOSTILE, protocol=HOSTILE)])
    hostile["pruning_truth"] = [truth(flag=HOSTILE, candidates={HOSTILE: 0.5})]
    hostile["evaluation_skipped"] = [{"task": "knn", "reason": HOSTILE}]
    other = record(HOSTILE, 1, run="q", **named, metrics=[metric(0.5, task="knn")])
    broken = record(HOSTILE, 2, run="b", **named)
    put(results, hostile, other)
    plan(results, hostile, other, broken)
    fail(results, broken, HOSTILE)
    report = Report(results, capsys)
    for name in ("index.html", "tables/main.html", "tables/main.md"):
        assert "<script>alert" not in report.read(name).replace("<wbr>", ""), name
    assert f"failed: RuntimeError: {HOSTILE}" in report.words


def test_latex_escapes_special_characters(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(results, record(r"a_b%c&d$e#f{g}~h^i\j<k>", 0, run="r"))
    tex = Report(results, capsys).read("tables/main.tex")
    assert (
        r"a\_b\%c\&d\$e\#f\{g\}\textasciitilde{}h\textasciicircum{}i\textbackslash{}j\textless{}k\textgreater{}"
        in tex
    )


@pytest.mark.usefixtures("drawn")
def test_a_dollar_in_a_name_is_no_formula_in_a_figure(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(results, record(r"$\nosuch{$", 0, run="r"))
    assert Report(results, capsys).code == 0


def test_latex_compiles(results: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must compile the tables: pdflatex is not installed")
        pytest.skip("pdflatex is not installed")
    tiny_sweep(results)
    put(results, record(r"a_b%c&d$e#f{g}~h^i\j<k>|\"[*", 0, run="r"))
    out = Report(results, capsys).out
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "all.tex").write_text(head + r"\input{" + str(out / "tables/main.tex") + r"}\end{document}")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=patience(60), check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_nothing_to_report_is_one_clear_message(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for make, said in (
        (lambda: None, "no such folder"),
        (results.mkdir, "nothing to report"),
        ((results / "empty").mkdir, "nothing to report"),
    ):
        make()
        report = Report(results, capsys)
        assert (report.code, report.stderr.count("\n")) == (2, 1)
        assert said in report.stderr
    report = Report(results, capsys, "nope")
    assert (report.code, "no sweep 'nope'" in report.stderr) == (2, True)


def test_a_planned_sweep_without_any_record_still_makes_a_page(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(results, record("full", 0))
    report = Report(results, capsys)
    assert report.code == 0
    assert "0 records; 1 runs planned, 1 missing (1 not run)" in report.words


def test_only_the_named_sweeps_are_reported(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(results, record("full", 0), record("scan", 0, sweep="second"))
    assert {row["method"] for row in Report(results, capsys, "sweeps/second.yaml").table()} == {"scan"}


def test_a_search_for_settings_is_reported_only_by_name(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tried = record("full", 7, sweep="search")
    put(results, record("full", 0), record("scan", 0), tried)
    plan(results, tried, sweep="search", compare=False)
    report = Report(results, capsys)
    assert "2 records" in report.words
    assert "Not compared: search" in report.words
    assert {row["runs"] for row in report.table() if row["method"] == "full"} == {record("full", 0)["run"]}
    shutil.rmtree(results / "tiny")
    assert "1 records" in Report(results, capsys).words
    put(results, record("full", 0), record("scan", 0))
    named = Report(results, capsys, "search")
    assert "1 records" in named.words
    assert "Not compared" not in named.words


def test_a_configuration_without_any_record_is_one_line(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = [record(method, seed, model="other") for method in ("full", "scan") for seed in (1, 2, 3)]
    put(results, record("full", 0))
    plan(results, record("full", 0), *absent)
    report = Report(results, capsys)
    assert "Planned, without a record yet (1)" in report.words
    told = (report.out / "tables" / "main.md").read_text(encoding="utf-8")
    assert "- clip · other · shapes: full × 3, scan × 3" in told
    assert "## clip · other" not in told


def test_seeds_that_are_missing_for_one_reason_are_one_line(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(results, record("full", 0), record("scan", 0))
    absent = [record("scan", seed) for seed in (1, 2, 3)]
    plan(results, record("full", 0), record("scan", 0), *absent)
    fail(results, absent[1], "out of memory")
    assert "missing: seeds 1, 3 not run; seed 2 failed" in Report(results, capsys).words


@pytest.mark.slow
def test_the_report_never_loads_torch() -> None:
    modules = "analysis.report, analysis.page.page, analysis.figures.sections"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_departures_are_collected_from_comments(tmp_path: Path) -> None:
    from analysis.page.departures import departures

    folder = tmp_path / "baselines"
    folder.mkdir()
    (folder / "a.py").write_text(
        "x = 1  # DEVIATION(scan): short\n# not of it\n# DEVIATION(moco): goes on\n#   in a second line\nx = 2\n"
    )
    found = [(one.name, one.text, one.where) for one in departures(tmp_path)]
    assert found == [
        ("moco", "goes on in a second line", "baselines/a.py:3"),
        ("scan", "short", "baselines/a.py:1"),
    ]


def test_a_missing_run_stands_in_the_table_its_config_names(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"train": {"epochs": 4, "batch_size": 8}, "model": {"name": "vit", "options": {}}, "evaluate": []}
    absent = record("scan", 0, config=small)
    runs = [record("full", 0), record("full", 0, run="small", config=small)]
    put(results, *runs)
    plan(results, *runs, absent)
    folder = results / "tiny" / absent["run"]
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps(small))
    rows = Report(results, capsys).table()
    told = {(row["setting"], row["method"], row["state"]) for row in rows if row["metric"] == "top1"}
    assert told == {
        ("train.batch_size = absent", "full", "complete"),
        ("train.batch_size = 8", "full", "complete"),
        ("train.batch_size = 8", "scan", "missing"),
    }
