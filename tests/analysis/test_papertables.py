"""The paper's tables: pivots, equal budgets, ablations and cost; budgets are marked, hostile text is escaped."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from claim_trees import read, run, runs
from patience import patience
from report_trees import metric, put

from analysis.page.answers import read as make_reading
from analysis.page.checklist import Item
from analysis.page.drawn import Figures
from analysis.read import methods
from analysis.read.results import Run
from analysis.report import main
from analysis.tables.cells import best_by_budget, budgets
from analysis.tables.costs import Energy, hours, read_energy
from analysis.tables.paper import paper_tables
from analysis.tables.render import PaperCell, PaperTable
from baselines.scan import Scan
from benchmark.options import ConfigError
from benchmark.pruner import Pruner, StaticPruner
from benchmark.runs.folder import RunFolder

HOSTILE = '<script>alert("x")</script>'
ENERGY = read_energy()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.page.drawn.draw", lambda *_: Figures())


def tables(results: Path, kind: str, *records: dict[str, Any], energy: Energy = ENERGY) -> list[PaperTable]:
    found, blocks = read(results, *records)
    return [table for table in paper_tables(blocks, found.runs, energy) if table.kind == kind]


def cell(table: PaperTable, row: str, column: str) -> PaperCell:
    (found,) = [r for r in table.rows if r.label == row]
    return found.cells[[head[0] for head in table.heads].index(column)]


def test_rows_are_methods_and_columns_architectures_with_the_average_of_paired_differences(results: Path) -> None:
    (table,) = tables(
        results,
        "main",
        *runs("full", [0.6, 0.6], model="a"),
        *runs("scan", [0.58, 0.60], model="a", pruned=0.3),
        *runs("full", [0.7, 0.7], model="b"),
        *runs("scan", [0.66, 0.68], model="b", pruned=0.3),
        *runs("semdedup", [0.5, 0.5], model="b", pruned=0.3),
    )
    assert table.title == "clip · shapes · zero-shot on shapes, top1"
    assert [head[0] for head in table.heads] == ["a", "b", "average"]
    assert cell(table, "full", "a").lines == ("60.5 (sd 0.7, n = 2)",)
    # seed by seed the means of (-2, -4) and (0, -2): -3 and -1
    assert cell(table, "scan", "average").facts["difference"] == pytest.approx(-0.02)
    assert cell(table, "scan", "average").lines[1] == "2 of 2 configurations"
    assert cell(table, "scan", "average").lines[0].endswith("(n = 2)")
    assert cell(table, "semdedup", "average").lines[1] == "1 of 2 configurations"
    assert cell(table, "semdedup", "a").lines == ("missing", "not asked for")
    assert len(cell(table, "scan", "a").runs) == 2


def test_sets_that_a_fine_tuned_model_is_tried_on_have_tables_of_their_own_and_reasons(results: Path) -> None:
    def tuned(dataset: str, value: float) -> dict[str, Any]:
        return metric(value, task="finetune", dataset=dataset, protocol="finetune.wise_ft.v1")

    plain = {"name": "finetune", "options": {"dataset": "imagenet", "recipe": "wise_ft"}}
    cifar = {"name": "finetune", "options": {"dataset": "cifar10", "recipe": "wise_ft"}}
    sets = ["imagenet_v2", {"imagenet_a": {"root": "x"}}]
    further = {"name": "finetune", "options": {**plain["options"], "test_on": sets}}  # type: ignore[dict-item]
    skip = {
        "task": "finetune",
        "options": further["options"],
        "dataset": sets[1],
        "reason": "imagenet_a is absent",
    }
    own, v2, a = (tuned(f"imagenet{name}", value) for name, value in (("", 0.7), ("_v2", 0.6), ("_a", 0.1)))
    (full,), (scan,), (older,) = (runs(name, [0.5]) for name in ("full", "scan", "infobatch"))
    full |= {"metrics": [own, v2, a]}
    scan |= {"metrics": [tuned("imagenet", 0.69), tuned("imagenet_v2", 0.59)], "evaluation_skipped": [skip]}
    older |= {"metrics": [tuned("imagenet", 0.68)]}  # from before sets could be asked for
    for record, asked in ((full, [cifar, further]), (scan, [further, cifar]), (older, [plain, cifar])):
        record["config"]["evaluate"] = asked
    found = {table.title.partition(" on ")[2]: table for table in tables(results, "main", full, scan, older)}
    assert list(found) == ["imagenet, top1", "imagenet_a, top1", "imagenet_v2, top1"]
    assert [row.label for row in found["imagenet, top1"].rows] == ["full", "infobatch", "scan"]
    assert cell(found["imagenet_v2, top1"], "scan", "vit").lines[0] == "59.0 (n = 1)"
    assert "no value yet: infobatch, scan" in found["imagenet_a, top1"].notes
    (block,) = read(results, full, scan, older)[1]
    (column,) = [column for column in block.columns if column.dataset == "imagenet_a"]
    absent = {row.method: row.cells[column].unmeasured for row in block.rows}
    assert absent["scan"] == ("seed 0 imagenet_a is absent",)
    assert absent["infobatch"] == ("seed 0 not measured this way",)


def test_a_protocol_that_is_inferred_says_so_and_another_does_not(results: Path) -> None:
    (full,) = runs("full", [0.5])
    told = {recipe: f"finetune.{recipe}.v1" for recipe in ("deit_transfer_mixup0.5", "deit_imagenet", "wise_ft")}
    full |= {"metrics": [metric(0.5, task="finetune", dataset=k, protocol=v) for k, v in told.items()]}
    notes = {table.title.split()[-2]: " ".join(table.notes) for table in tables(results, "main", full)}
    assert {name.strip(","): "inferred" in note for name, note in notes.items()} == {
        "deit_transfer_mixup0.5": True,
        "deit_imagenet": False,
        "wise_ft": False,
    }


def test_budgets_of_one_column_are_marked_where_they_differ(results: Path) -> None:
    full, scan = runs("full", [0.6, 0.6]), runs("scan", [0.58, 0.60], pruned=0.3)
    near = runs("density", [0.5, 0.5], pruned=0.32)
    (alike,) = tables(results, "main", *full, *scan, *near)
    assert [row.notes for row in alike.rows] == [(), ("pruned 32.0 %",), ("pruned 30.0 %",)]
    assert not any("pruned" in line for row in alike.rows for one in row.cells for line in one.lines)
    (mixed,) = tables(results, "main", *runs("semdedup", [0.5, 0.5], pruned=0.7))
    for name, share in (("scan", "30.0"), ("density", "32.0"), ("semdedup", "70.0")):
        assert f"pruned {share} %" in cell(mixed, name, "vit").lines


def test_best_is_sought_within_one_budget(results: Path) -> None:
    (table,) = tables(
        results,
        "main",
        *runs("full", [0.9, 0.9, 0.9]),
        *runs("scan", [0.60, 0.601, 0.599], pruned=0.3),
        *runs("density", [0.50, 0.501, 0.5], pruned=0.3),
        *runs("random_subset", [0.80, 0.801, 0.799], pruned=0.1),  # the only one of its budget
    )
    assert [row.label for row in table.rows if any(one.is_best for one in row.cells)] == ["scan"]


def test_classes_of_budgets_are_cut_at_gaps() -> None:
    assert budgets({"a": 0.3, "b": 0.31, "c": 0.33, "d": 0.4}) == {"a": 0, "b": 0, "c": 0, "d": 1}
    values = {"a": {0: 1.0, 1: 1.1, 2: 1.2}, "b": {0: 0.0, 1: 0.1, 2: 0.21}}
    assert best_by_budget(values, {"a": 0, "b": 1}) == set()
    assert best_by_budget(values, {"a": 0, "b": 0}) == {"a"}


def test_coresets_stand_side_by_side_at_equal_budgets_alone(results: Path) -> None:
    def kept(name: str, keep: float, **options: Any) -> list[dict[str, Any]]:
        told = {"keep_fraction": keep, **options}
        return runs(name, [0.5, 0.5], pruned=1 - keep, options=told, label=f"{name}{keep}{len(options)}")

    source = "clip-vit-shapes-scan-s0-abc123"
    (table,) = tables(
        results,
        "coresets",
        *runs("scan", [0.5, 0.5], pruned=0.3),
        *kept("coreset", 0.7, runs=[source]),
        *kept("coreset", 0.7, runs=[source, source], files=[]),
        *kept("semdedup", 0.7),
        *kept("semdedup", 0.5),
        *kept("random_dynamic", 0.7),
    )
    assert table.heads == (("coreset", "of scan"), ("coreset", "of scan × 2"), ("semdedup",))
    assert [row.label for row in table.rows] == ["70.0 % seen", "50.0 % seen"]
    assert table.rows[0].notes == ("2,800 samples",)
    assert table.rows[1].cells[0].lines == ("—",)


def test_ablations_tell_which_option_differs_and_compare_with_scan(results: Path) -> None:
    published = {"cycle": 3, "mode": "both", "redundant_share": 0.3, "ill_matched_share": 0.3}
    (table,) = tables(
        results,
        "ablations",
        *runs("full", [0.6, 0.6]),
        *runs("scan", [0.58, 0.58], pruned=0.3, options=published),
        *runs("scan", [0.5, 0.5], pruned=0.3, options={**published, "cycle": 7}, label="any words"),
        *runs("scan", [0.5, 0.5], pruned=0.1, options={**published, "redundant_share": 0.1,
                                                       "ill_matched_share": 0.1}, label="scan(0.1)"),
        *runs("scan_random", [0.5, 0.52], pruned=0.3, options=published),
    )  # fmt: skip
    told = [(row.group, row.label) for row in table.rows]
    assert told == [
        ("", "full"),
        ("", "scan, published options"),
        ("which data", "scan_random"),
        ("how much", "ill_matched_share = 0.1, redundant_share = 0.1"),
        ("when", "cycle = 7"),
    ]
    assert table.rows[-1].cells[0].lines == ("30.0 (n = 2)",), "a pruned share stands in each row"
    assert "Δ to SCAN −8.0" in table.rows[-1].cells[2].lines[1]
    (main_table,) = tables(results, "main")
    assert "any words" not in {row.label for row in main_table.rows}


def test_moco_has_its_own_published_shares(results: Path) -> None:
    options = {"redundant_share": 0.35, "ill_matched_share": 0.35}
    found, _ = read(results, run("scan", 0, 0.5, options=options, framework="moco"))
    assert methods.is_published_scan(found.runs[0])
    found, _ = read(results, run("scan", 1, 0.5, options=options))
    assert [methods.is_published_scan(one) for one in found.runs if one.record["seed"] == 1] == [False]


def test_published_options_and_families_are_those_of_the_code() -> None:
    defaults = {f.name: f.default for f in dataclasses.fields(Scan)}
    share = {"redundant_share": 0.30, "ill_matched_share": 0.30}
    assert defaults == {**methods.SCAN_OPTIONS, **share}
    assert {k for options in methods.ABOUT.values() for k in options} == set(defaults)
    dynamic = set()
    for path in (Path(methods.__file__).parents[2] / "baselines").glob("[a-z]*.py"):
        module = importlib.import_module(f"baselines.{path.stem}")
        own = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
        if any(issubclass(c, Pruner) and not issubclass(c, StaticPruner) for c in own):
            dynamic.add(path.stem)
    assert dynamic - {methods.FULL} == methods.DYNAMIC


def test_cost_counts_per_device_and_names_the_assumption(results: Path) -> None:
    gpu = {"device": "NVIDIA H100 80GB HBM3", "num_ranks": 4}
    more = {"seconds": 3600.0, "samples_scored": 50, "optimizer_steps": 10}
    first, second = tables(
        results,
        "cost",
        run("full", 0, 0.6, training={**more, "seconds": 7200.0}, **gpu),
        run("scan", 0, 0.6, pruned=0.3, training=more, **gpu),
        run("scan", 1, 0.6, pruned=0.3, device="Fast CPU (8 threads)"),
    )
    assert [t.title.partition("cost on ")[2] for t in (first, second)] == [
        "Fast CPU (8 threads)",
        "NVIDIA H100 80GB HBM3 × 4",
    ]
    scan = {" ".join(head): one.lines for head, one in zip(second.heads, second.rows[1].cells, strict=True)}
    assert scan["GPU hours training"] == ("4.00", "n = 1")
    assert scan["seconds training"] == ("3,600", "n = 1", "× 0.50 of full (n = 1)")
    assert scan["energy kWh, estimate"] == ("2.80", "n = 1")
    assert scan["optimiser steps"] == ("10", "n = 1")
    assert any("700 W for NVIDIA H100 80GB HBM3 (TDP of H100)" in note for note in second.notes)
    cpu = {" ".join(head): one.lines for head, one in zip(first.heads, first.rows[0].cells, strict=True)}
    assert cpu["samples scored forward only"] == ("not recorded",)
    assert cpu["core hours training"] == (f"{140 * 8 / 3600:.2f}", "n = 1")
    assert cpu["energy Wh, estimate"] == (f"{140 * 80 / 3600:.2f}", "n = 1"), "10 W a core, of which 8"


def test_watts_can_be_given_and_mistakes_are_named(tmp_path: Path) -> None:
    assert Energy({}, None, None).watts("GPU X")[0] is None
    assert Energy({}, 250, None).watts("GPU X") == (250, "250 W for GPU X (not listed: the default)")
    (tmp_path / "w.yaml").write_text("devices: {H100: 1}\ndefault_gpu: -3\ndefault_core: null")
    with pytest.raises(ConfigError, match="watts must be numbers above 0"):
        read_energy(tmp_path / "w.yaml")


def test_hours_are_of_all_ranks_or_cores() -> None:
    base = {"training": {"seconds": 3600.0}, "num_ranks": 2}
    assert hours({**base, "device": "NVIDIA A100"}) == 2
    assert hours({**base, "device": "Xeon (4 threads)"}) == 8


def some_of_all(results: Path, name: str = "semdedup", **hostile: str) -> None:
    label = {"label": name}
    put(
        results,
        *runs("full", [0.6, 0.6]),
        *runs("scan", [0.6, 0.59], pruned=0.3, **hostile),
        *runs("scan_random", [0.5, 0.5], pruned=0.3),
        *runs(name, [0.5, 0.5], pruned=0.3, **label),
        *runs("random_subset", [0.5, 0.5], pruned=0.3),
        *runs("scan", [0.5, 0.5], pruned=0.2, options={"mode": name}, label="variant"),
    )


def test_every_table_is_written_in_every_format_and_numbers_link_to_records(results: Path, tmp_path: Path) -> None:
    some_of_all(results)
    out = tmp_path / "report"
    assert main(["--results", str(results), "--out", str(out)]) == 0
    for name in (
        "headline.md",
        "headline.csv",
        "paper.html",
        "paper.md",
        "paper.tex",
        "paper.csv",
        "claims.md",
        "claims.tex",
        "claims.csv",
    ):
        assert (out / "tables" / name).stat().st_size > 500, name
    rows = list(csv.DictReader((out / "tables/paper.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["kind"] for row in rows} == {"main", "coresets", "ablations", "cost"}
    assert all(row["runs"] for row in rows if row["n"] and row["n"] != "0")
    page = (out / "index.html").read_text(encoding="utf-8")
    places = [page.index(f'id="{name}"') for name in ("answer", "methods", "cost", "claims", "tables", "main")]
    assert places == sorted(places)
    assert {a for a in re.findall(r'href="#([^"]+)"', page) if f'id="{a}"' not in page} == set()
    table = page[page.index('id="main"') : page.index('id="missing"')]
    assert table.count("n = 2 seeds where a cell does not say another") > 2
    assert "n\u00a0=\u00a02)" not in table, "told once"
    assert table.count('href="#run-') > 20
    assert "published numbers" in page.lower()


def test_hostile_text_is_escaped_everywhere(results: Path, tmp_path: Path) -> None:
    some_of_all(results, name=HOSTILE)
    other = run("full", 7, 0.5, model=HOSTILE, pool=HOSTILE, dataset=HOSTILE, device=HOSTILE)
    put(results, other | {"run": "h"})
    out = tmp_path / "report"
    assert main(["--results", str(results), "--out", str(out)]) == 0
    for path in (out / "index.html", *out.glob("tables/*.html"), *out.glob("tables/*.md")):
        assert "<script>alert" not in path.read_text(encoding="utf-8").replace("<wbr>", ""), path.name


def test_the_latex_of_papers_tables_and_claims_compiles(results: Path, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must compile the tables: pdflatex is not installed")
        pytest.skip("pdflatex is not installed")
    some_of_all(results, name=r"a_b%c&d$e#f{g}~h^i\j<k>|\"[*")
    out = tmp_path / "report"
    main(["--results", str(results), "--out", str(out)])
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}\begin{document}"
    body = "".join(rf"\input{{{out / 'tables' / name}}}" for name in ("headline.tex", "claims.tex", "paper.tex"))
    (tmp_path / "all.tex").write_text(head + body + r"\end{document}")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=patience(60), check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "too large" not in done.stdout, "a table runs over its page"


def test_the_checklist_is_filled_from_records_and_leaves_the_rest_open(results: Path, tmp_path: Path) -> None:
    some_of_all(results)
    out = tmp_path / "report"
    main(["--results", str(results), "--out", str(out)])
    text = (out / "tables/checklist.md").read_text(encoding="utf-8")
    for told in (
        "12 records, 0 planned, none missing",
        "seeds 0, 1",
        "shapes: 1,000 samples, fingerprint f1f2f3f4",
        "0123456789: 12 records",
        "torch 2.11.0",
        "python -m benchmark.sweep sweeps/tiny.yaml",
        "- [ ] Are the limitations told: scale, assumptions, what was not tested?\n  - to be said by the author",
        "ddof 1",
        "n = 2",
    ):
        assert told in text, told
    assert Item("a").is_open
    page = (out / "index.html").read_text(encoding="utf-8")
    assert 'id="checklist"' in page


@pytest.mark.slow
def test_ten_thousand_records_take_a_few_seconds(tmp_path: Path) -> None:
    from analysis.blocks.block import build_blocks
    from analysis.read.results import Results

    found = []
    for model in range(50):
        for number in range(20):
            name = ("full", "scan")[number] if number < 2 else f"m{number}"
            pruned = 0.0 if name == "full" else 0.3
            for seed in range(10):
                made = run(
                    name, seed, 0.5 + 0.001 * ((seed * 7 + number * 3) % 10), pruned=pruned, model=f"v{model}"
                )
                made["metrics"].append(metric(0.4, task="retrieval", metric="image_to_text_r1", protocol="r.v1"))
                found.append(Run(made, RunFolder(tmp_path / made["run"]), planned=True))
    order = tuple(dict.fromkeys(one.record["method"] for one in found))
    all_of = Results(tmp_path, ("tiny",), tuple(found), (), (), (), 0, order, "digest")
    blocks = build_blocks(all_of)
    start = time.process_time()  # whatever else the machine does
    reading = make_reading(all_of, blocks, "command")
    reading.write(tmp_path / "tables")
    assert time.process_time() - start < 20, "about 4 s"
