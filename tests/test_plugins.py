"""A file dropped into a folder of methods is one; a broken one is told by name and stops nothing else."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny import clip_grid

from analysis import report
from analysis.page.departures import departures
from benchmark import plugins, sweep
from benchmark.options import ConfigError
from benchmark.pruner import Pruner
from benchmark.runs import snapshot
from benchmark.runs.record import read_record

GOOD = '''"""Odd samples in odd epochs, even ones in even epochs."""

from dataclasses import dataclass
import numpy as np
from baselines._every import EVERY
from benchmark.pruner import EpochPlan, Pruner


@dataclass
class Alternate(Pruner):
    def plan(self, epoch: int) -> EpochPlan:
        # DEVIATION(alternate): strict
        return EpochPlan(keep=np.arange(self.pool.num_samples) % EVERY == epoch % EVERY)
'''
TWO = GOOD + "\n\n@dataclass\nclass Second(Alternate):\n    pass\n"
BROKEN = {
    "bad_syntax": ("def plan(:\n", "extra/bad_syntax.py cannot be imported: SyntaxError: invalid syntax"),
    "bad_import": ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
    "bad_exit": ("import sys\nsys.exit('no licence')\n", "cannot be imported: SystemExit: no licence"),
    "bad_none": ('"""Nothing."""\n', "extra/bad_none.py must define exactly one Pruner; found none"),
    "bad_two": (TWO, "extra/bad_two.py must define exactly one Pruner; found Alternate, Second"),
    "bad_plain": (GOOD.replace("@dataclass\n", ""), "Alternate must be a dataclass: its fields are its options"),
}
"""By name: what the file holds, and what is to be read about it."""


@pytest.fixture
def dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder elsewhere with one good method and seven broken ones."""
    folder = tmp_path / "extra"
    folder.mkdir()
    (folder / "alternate.py").write_text(GOOD)
    (folder / "_every.py").write_text("EVERY = 2\n")
    for name, (content, _) in BROKEN.items():
        (folder / f"{name}.py").write_text(content)
    (folder / "bad_bytes.py").write_bytes(b'"""\xff"""\n')
    monkeypatch.setenv(plugins.METHODS, str(folder))
    yield
    for name in ("alternate", "_every", "bad_bytes", *BROKEN):
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
    assert "baselines/alternate.py:12" in (out / "index.html").read_text(), "its departure is to be listed"
    assert "2 records, 0 missing" in capsys.readouterr().out
    assert all(r["code"]["dirty"] is not False for r in records), "no commit holds that file"


@pytest.mark.usefixtures("dropped")
@pytest.mark.parametrize("name", BROKEN)
def test_a_sweep_that_names_a_broken_file_is_told_so_at_the_desk(
    name: str, write_sweep: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(pruner=["full", name]))
    assert command(path, "--dry-run") == sweep.EXIT_USAGE
    told = capsys.readouterr().err
    assert told.startswith(f"error: {path}: grid[0].pruner: {tmp_path}/extra/{name}.py")
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


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with one method, which nobody has named yet."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "odd.py").write_text(GOOD.replace("from baselines._every import EVERY", "EVERY = 2"))
    monkeypatch.setenv(plugins.METHODS, "")
    yield tmp_path / "mine"
    sys.modules.pop("baselines.odd", None)


def test_methods_names_a_folder_for_one_command_and_the_plan_remembers_it(
    elsewhere: Path, write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(pruner="odd"))
    assert command(path, "--dry-run") == sweep.EXIT_USAGE
    assert "grid[0].pruner: unknown name 'odd'" in capsys.readouterr().err
    assert sweep.main(["--methods", str(elsewhere), "check", "odd"]) == 0
    assert "BROKEN" not in capsys.readouterr().out
    assert command(path, "--dry-run", f"--methods={elsewhere}") == 0
    assert "1 run" in capsys.readouterr().out
    assert command(path, "--methods", str(elsewhere / "no"), "--dry-run") == sweep.EXIT_USAGE
    assert f"error: {elsewhere}/no: no such folder" in capsys.readouterr().err


@pytest.mark.usefixtures("dropped")
def test_a_snapshot_holds_the_folder_and_its_jobs_look_nowhere_else(tmp_path: Path) -> None:
    taken = snapshot.take(tmp_path / "code")
    held = taken.folder / "baselines"
    assert (held / "alternate.py").read_text() == GOOD
    assert (held / "_every.py").exists()
    assert (held / "scan.py").exists()
    words = (taken.folder / "__main__.py").read_text().partition("from benchmark")[0]
    assert f'os.environ.pop("{plugins.METHODS}", None)' in words
    (tmp_path / "extra" / "alternate.py").write_text(GOOD + "# edited\n")
    assert snapshot.take(tmp_path / "code") != taken


def test_a_folder_that_is_named_twice_is_one(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by ``--methods`` and the environment at once."""
    monkeypatch.setenv(plugins.METHODS, f"{elsewhere}{os.pathsep}{elsewhere}/../{elsewhere.name}/")
    monkeypatch.delitem(sys.modules, "baselines.odd", raising=False)
    assert plugins.load("baselines", "odd", Pruner, "x").__module__ == "baselines.odd"  # type: ignore[type-abstract]


def test_two_methods_of_one_name_are_told_where_they_lie(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.METHODS, str(elsewhere))
    (elsewhere / "odd.py").rename(elsewhere / "big_loss.py")
    monkeypatch.delitem(sys.modules, "baselines.big_loss", raising=False)
    with pytest.raises(ConfigError, match=rf"'big_loss' is both baselines/big_loss\.py and {elsewhere}/big_loss"):
        plugins.load("baselines", "big_loss", Pruner, "x")  # type: ignore[type-abstract]
    with pytest.raises(ConfigError, match=r"there is another baselines/big_loss\.py: rename this one"):
        plugins.files_outside("baselines")


def test_an_installed_package_brings_methods_by_its_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, facts = tmp_path / "their_methods", tmp_path / "their_methods-1.0.dist-info"
    package.mkdir()
    facts.mkdir()
    (package / "__init__.py").write_text("EVERY = 3\n")
    (package / "two.py").write_text(TWO.replace("baselines._every", "their_methods"))
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: their-methods\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        "[scan_bench.baselines]\nthird = their_methods.two:Second\nboth = their_methods.two\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plugins.installed.cache_clear()
    try:
        found = {plugin.name: plugin for plugin in plugins.survey("baselines", Pruner)}
        assert found["third"].summary == "Odd samples in odd epochs, even ones in even epochs."
        assert "their_methods.two of their-methods must define exactly one Pruner" in found["both"].summary
        assert plugins.load("baselines", "third", Pruner, "x").__name__ == "Second"  # type: ignore[type-abstract]
        taken = snapshot.take(tmp_path / "code").folder
        assert (taken / "their_methods" / "two.py").exists()
        assert snapshot.take(tmp_path / "again", taken).name == taken.name
    finally:
        plugins.installed.cache_clear()
        for name in [name for name in sys.modules if name.startswith("their_methods")]:
            del sys.modules[name]
