"""The paper's numbers: read strictly, shown as what they are beside ours, and in no verdict."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml
from claim_trees import REGISTRY, at_paper, read
from report_trees import put

from analysis.claims.published import NUMBERS_FILE, PaperNumbers, read_published
from analysis.report import main
from analysis.tables.costs import read_energy
from analysis.tables.paper import paper_tables
from analysis.tables.render import PaperCell
from benchmark.options import ConfigError

RN101 = REGISTRY.paper["clip", "RN101", "cc12m_plus"]
NUMBERS = read_published(REGISTRY)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def table(**changes: Any) -> dict[str, Any]:
    """A table of one row, as a reader would fill it in."""
    return {
        "title": "one", "place": "table 9", "source": "primary", "framework": "clip", "pool": "cc12m_plus",
        "pruned": 30, "columns": [{"name": "IN", "task": "zero_shot", "dataset": "imagenet", "metric": "top1"}],
        "rows": [{"model": "RN101", "method": "semdedup", "printed": "SemDeDup", "values": [10]}], **changes,
    }  # fmt: skip


def written(folder: Path, *tables: dict[str, Any], **changes: Any) -> Path:
    path = folder / "numbers.yaml"
    path.write_text(yaml.safe_dump({"paper": "p", "numbers": [], "tables": list(tables), **changes}))
    return path


def cells(results: Path, numbers: PaperNumbers, *records: dict[str, Any]) -> dict[str, PaperCell]:
    """Method -> its cell in the one table as in the paper."""
    found, blocks = read(results, *records)
    told = paper_tables(blocks, found.runs, read_energy(), functools.partial(numbers.beside, REGISTRY))
    (one,) = [table for table in told if table.kind == "main"]
    return {row.label: row.cells[0] for row in one.rows}


def test_a_number_of_ours_stands_beside_the_papers_with_the_difference(results: Path) -> None:
    full, scan = at_paper("full", [0.20, 0.21], RN101), at_paper("scan", [0.24, 0.24], RN101)
    found = cells(results, NUMBERS, *full, *scan, *at_paper("infobatch", [0.2, 0.2], RN101))
    assert found["full"].published == ("paper 18.78 (not checked), Δ +1.7",)
    assert found["scan"].published == ("paper 23.10 (not checked), Δ +0.9",)
    assert found["scan"].facts["published_difference"] == pytest.approx(0.24 - 0.2310)
    assert found["scan"].facts["published_source"].startswith("secondary, not checked: ")
    assert found["infobatch"].published == (), "the paper's is not known"


@pytest.mark.parametrize("changes", [{"train": {"batch_size": 64}}, {"train": {"lr": 1e-6}}], ids=str)
def test_runs_that_do_not_count_as_the_papers_have_no_number_of_it_beside_them(
    changes: dict[str, Any], results: Path
) -> None:
    assert cells(results, NUMBERS, *at_paper("full", [0.2], RN101, **changes))["full"].published == ()


def test_of_several_budgets_the_nearest_stands_beside_the_papers(results: Path, tmp_path: Path) -> None:
    numbers = read_published(REGISTRY, written(tmp_path, table()))
    kept = [
        one
        for keep in (0.5, 0.75, 0.9)
        for one in at_paper("semdedup", [0.1], RN101, pruned=1 - keep, label=f"semdedup({keep})")
    ]
    found = cells(results, numbers, *kept)
    assert {name: bool(cell.published) for name, cell in found.items()} == {
        "semdedup(0.5)": False, "semdedup(0.75)": True, "semdedup(0.9)": False,
    }  # fmt: skip
    assert found["semdedup(0.75)"].published == ("paper 10.00, Δ 0.0",)


def test_what_the_paper_itself_says_goes_before_what_is_told_of_it(results: Path, tmp_path: Path) -> None:
    second = table(
        source="secondary, not checked: a note", rows=[{"model": "RN101", "method": "full", "values": [50]}]
    )
    first = table(rows=[{"model": "RN101", "method": "full", "values": [20]}])
    for order in ((first, second), (second, first)):
        numbers = read_published(REGISTRY, written(tmp_path, *order))
        assert cells(results, numbers, *at_paper("full", [0.2], RN101))["full"].published == (
            "paper 20.00, Δ 0.0",
        )


def test_every_format_tells_the_papers_numbers_as_such(results: Path, tmp_path: Path) -> None:
    put(results, *at_paper("full", [0.2, 0.2], RN101), *at_paper("scan", [0.24, 0.24], RN101))
    out = tmp_path / "report"
    assert main(["--results", str(results), "--out", str(out)]) == 0
    page = (out / "index.html").read_text(encoding="utf-8").replace("<wbr>", "")
    assert '<span class="soft paper">paper 23.10 (not checked), Δ\u00a0+0.9</span>' in page
    assert "Published: CC12M+, ImageNet zero-shot and fine-tuning" in page
    assert "en.papernotes.org" in page
    assert "*paper 23.10 (not checked), Δ +0.9*" in (out / "tables/paper.md").read_text(encoding="utf-8")
    assert r"\textit{paper 23.10 (not checked), $\Delta$ +0.9}" in (out / "tables/paper.tex").read_text(
        encoding="utf-8"
    )
    assert "0.231" in (out / "tables/paper.csv").read_text(encoding="utf-8")
    assert "| RN101, D-Pruning<br>here density | 12.59 |" in (out / "tables/claims.md").read_text(encoding="utf-8")


def test_what_is_known_second_hand_says_so() -> None:
    assert "primary" in {one.source for one in NUMBERS.numbers}
    assert all(one.place for one in NUMBERS.numbers)
    (told,) = NUMBERS.tables
    assert told.source.startswith("secondary, not checked: ")
    assert {(row.model, row.printed) for row in told.rows} >= {("RN101", "D-Pruning"), ("ViT-B-32", "Random")}
    assert sum(1 for _ in told.values()) == 5 * 6 + 6 + 1


ROW = {"model": "RN101", "method": "semdedup", "values": [10]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": "rumour"}, r"tables\[0\].source: must be 'primary' or 'secondary, not checked: WHERE FROM'"),
        ({"pool": "cc12m"}, r"tables\[0\].pool: unknown value 'cc12m'; did you mean 'cc12m_plus'"),
        ({"framework": "clap"}, r"tables\[0\].framework: unknown value 'clap'; did you mean 'clip'"),
        ({"pruned": 300}, r"tables\[0\].pruned: must be percent as printed, 0 to 100, got 300"),
        ({"rows": [{**ROW, "model": "RN11"}]}, r"tables\[0\].rows\[0\].model: unknown value 'RN11'; did you mean"),
        ({"rows": [{**ROW, "method": "semdedupe"}]}, r"rows\[0\].method: unknown value .* mean 'semdedup'"),
        ({"rows": [{**ROW, "values": [1, 2]}]}, r"rows\[0\].values: must be a list of 1"),
        ({"rows": [{**ROW, "values": ["26 %"]}]}, r"rows\[0\].values\[0\]: must be percent .* got '26 %'"),
        ({"rows": [{**ROW, "values": [True]}]}, r"rows\[0\].values\[0\]: must be percent"),
        ({"rows": [{**ROW, "valeus": []}]}, r"rows\[0\].valeus: unknown key; did you mean 'values'"),
        ({"rows": [ROW, ROW]}, r"tables\[0\].rows: two are of one model and method"),
        ({"rows": [7]}, r"tables\[0\].rows\[0\]: expected options"),
        ({"rows": {}}, r"tables\[0\].rows: must be a list"),
        ({"columns": [{"name": "IN", "task": "zeroshot", "dataset": "d", "metric": "m"}]},
         r"columns\[0\].task: unknown value 'zeroshot'; did you mean 'zero_shot'"),
        ({"columns": [{"name": "IN", "task": "zero_shot", "dataset": "d"}]}, r"columns\[0\]: missing metric"),
        ({"colums": []}, r"tables\[0\].colums: unknown key; did you mean 'columns'"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_table_is_one_error_with_its_key(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_published(REGISTRY, written(tmp_path, table(**changes)))


def test_one_value_in_two_tables_of_one_kind_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"tables\[1\].rows\[0\].IN: RN101, semdedup stands in tables\[0\].rows\[0\]"
    ):
        read_published(REGISTRY, written(tmp_path, table(), table(title="two")))
    read_published(REGISTRY, written(tmp_path, table(), table(source="secondary, not checked: a note")))


def test_a_number_in_words_says_how_sure_it_is(tmp_path: Path) -> None:
    one = {"what": "a", "value": 1, "setting": "s", "place": "t", "source": "rumour"}
    with pytest.raises(ConfigError, match=r"numbers\[0\].source: must be 'primary' or 'secondary"):
        read_published(REGISTRY, written(tmp_path, numbers=[one]))


def test_the_form_in_the_file_can_be_filled_in(tmp_path: Path) -> None:
    form = NUMBERS_FILE.read_text(encoding="utf-8").partition("The form:\n")[2].partition("paper:")[0]
    (example,) = yaml.safe_load(form.replace("\n# ", "\n").removeprefix("# "))
    (read_,) = read_published(REGISTRY, written(tmp_path, example)).tables
    assert (read_.source, [value for _, _, value in read_.values()]) == ("primary", [12.59])
