"""A file dropped into ``baselines/`` is a method; a broken one is told by name and stops nothing else."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny import clip_grid

import baselines
from analysis import report
from analysis.page.departures import departures
from benchmark import sweep
from benchmark.runs.record import read_record

GOOD = '''"""Odd samples in odd epochs, even ones in even epochs."""

from dataclasses import dataclass
import numpy as np
from benchmark.pruner import EpochPlan, Pruner


@dataclass
class Alternate(Pruner):
    def plan(self, epoch: int) -> EpochPlan:
        return EpochPlan(keep=np.arange(self.pool.num_samples) % 2 == epoch % 2)
'''
TWO = GOOD + "\n\n@dataclass\nclass Second(Alternate):\n    pass\n"
BROKEN = {
    "bad_syntax": ("def plan(:\n", "baselines/bad_syntax.py cannot be imported: SyntaxError: invalid syntax"),
    "bad_import": ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
    "bad_exit": ("import sys\nsys.exit('no licence')\n", "cannot be imported: SystemExit: no licence"),
    "bad_none": ('"""Nothing."""\n', "baselines/bad_none.py must define exactly one Pruner; found none"),
    "bad_two": (TWO, "baselines/bad_two.py must define exactly one Pruner; found Alternate, Second"),
    "bad_plain": (GOOD.replace("@dataclass\n", ""), "Alternate must be a dataclass: its fields are its options"),
}
"""By name: what the file holds, and what is to be read about it."""


@pytest.fixture
def dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One good method and six broken ones beside the others."""
    folder = tmp_path / "extra"
    folder.mkdir()
    (folder / "alternate.py").write_text(GOOD)
    for name, (content, _) in BROKEN.items():
        (folder / f"{name}.py").write_text(content)
    (folder / "bad_bytes.py").write_bytes(b'"""\xff"""\n')
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(folder)])
    yield
    for name in ("alternate", "bad_bytes", *BROKEN):
        sys.modules.pop(f"baselines.{name}", None)


def command(path: Path, *words: str) -> int:
    return sweep.main([str(path), "--results", str(path.parent / "results"), *words])


@pytest.mark.usefixtures("dropped")
def test_help_lists_each_method_with_a_line_and_each_broken_file_with_its_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit):
        sweep.main(["--help"])
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 90
    words = " ".join(told.split())
    assert "alternate Odd samples in odd epochs, even ones in even epochs." in words
    assert "scan SCAN (arXiv 2411.09126): a preparation epoch" in words
    for name, (_, error) in BROKEN.items():
        assert re.search(rf" {name} BROKEN: .*{re.escape(error)}", words), name
    assert "bad_bytes BROKEN" in words


@pytest.mark.slow
@pytest.mark.usefixtures("dropped")
def test_a_dropped_file_is_planned_trained_and_reported_beside_broken_ones(
    write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(pruner=["full", "alternate"], train={"epochs": 2}))
    assert command(path, "--cluster", "inline") == 0
    records = [read_record(file) for file in path.parent.glob("results/*/*/record.json")]
    assert {r["method"]: r["training"]["pruning_rate"] for r in records} == {"full": 0.0, "alternate": 0.5}
    out = path.parent / "report"
    assert report.main(["--results", str(path.parent / "results"), "--out", str(out)]) == 0
    assert "| alternate | 50.0 (n = 1)" in (out / "tables" / "main.md").read_text()
    assert "2 records, 0 missing" in capsys.readouterr().out


@pytest.mark.usefixtures("dropped")
@pytest.mark.parametrize("name", BROKEN)
def test_a_sweep_that_names_a_broken_file_is_told_so_at_the_desk(
    name: str, write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(pruner=["full", name]))
    assert command(path, "--dry-run") == sweep.EXIT_USAGE
    told = capsys.readouterr().err
    assert told.startswith(f"error: {path}: grid[0].pruner: baselines/{name}.py")
    assert BROKEN[name][1] in told
    assert "Traceback" not in told


@pytest.mark.slow
@pytest.mark.usefixtures("dropped")
def test_a_method_that_breaks_after_planning_fails_its_run_and_no_other(
    write_sweep: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "extra" / "alternate.py"
    file.write_text(GOOD.replace("return EpochPlan", "raise RuntimeError('half done')\n        return EpochPlan"))
    path = write_sweep(clip_grid(pruner=["alternate", "full"], train={"epochs": 1}))
    assert command(path, "--cluster", "inline") == sweep.EXIT_FAILED
    assert "RuntimeError: half done" in capsys.readouterr().err
    (record,) = path.parent.glob("results/*/*/record.json")
    assert read_record(record)["method"] == "full"
    out = path.parent / "report"
    assert report.main(["--results", str(path.parent / "results"), "--out", str(out)]) == 0
    page = (out / "index.html").read_text()
    assert "half done" in page
    assert "1 missing" in page


def test_a_broken_file_keeps_no_departure_from_the_report(tmp_path: Path) -> None:
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "broken.py").write_bytes(b"def (\xff\n# DEVIATION(x): told\n")
    assert [one.text for one in departures(tmp_path)] == ["told"]
