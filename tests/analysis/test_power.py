"""``python -m analysis.power``: from records to the seeds that comparisons need."""

from __future__ import annotations

from pathlib import Path

import pytest
from claim_trees import runs
from report_trees import put

from analysis import power
from analysis.claims.registry import read_claims
from analysis.power import power_tables
from analysis.read.results import load
from analysis.tables.render import PaperTable

FULL = runs("full", [0.60, 0.60, 0.60])
SCAN = runs("scan", [0.58, 0.61, 0.60], pruned=0.32)
RIVAL = runs("semdedup", [0.60, 0.59, 0.61], pruned=0.32)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    put(tmp_path / "results", *FULL, *SCAN, *RIVAL)
    return tmp_path / "results"


def needed(table: PaperTable) -> dict[str, int]:
    """Label of a comparison -> seeds needed."""
    place = table.heads.index(("seeds needed",))
    return {row.label: int(row.cells[place].lines[0].replace(",", "")) for row in table.rows}


def test_each_comparison_of_the_claims_and_each_method_of_a_table_has_its_seeds(results: Path) -> None:
    claims, block = power_tables(load(results), read_claims())
    assert {"small-loss: full, 1 configuration", "above-baselines: semdedup, 1 configuration"} <= needed(
        claims
    ).keys()
    assert needed(block).keys() == {"scan", "semdedup"}


def test_a_larger_effect_takes_fewer_seeds(results: Path) -> None:
    found = [needed(power_tables(load(results), read_claims(), effect=effect)[1]) for effect in (0.01, 0.05)]
    assert all(found[0][name] > found[1][name] > 1 for name in ("scan", "semdedup"))


def test_methods_can_be_held_against_another_than_full_data(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert power.main(["--results", str(results), "--against", "semdedup", "--effect", "1"]) == 0
    said = capsys.readouterr().out
    assert "against semdedup" in said
    assert "1 at 95 %" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--measure", "retrievel"], "'retrievel' is no measure (known: "),
        (["--against", "density"], "no method 'density' there (known: full, scan, semdedup)"),
        (["--measure", "retrieval"], "no two methods with a seed and a measure in common"),
        (["nothing"], "no sweep 'nothing' there"),
    ],
)
def test_what_cannot_be_compared_is_one_error(
    words: list[str], said: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert power.main(["--results", str(results), *words]) == 2
    assert said in capsys.readouterr().err
