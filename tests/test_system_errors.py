"""Errors of the system at each command: one line with the path and what to do, exit 2, never a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import clip_grid

from analysis import report
from benchmark import files, sweep
from benchmark.coreset import command as coreset
from benchmark.evaluate import command as evaluate
from benchmark.pool import command as pool

WriteSweep = Callable[..., Path]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("words", [["--dry-run"], ["--status"], ["--cluster", "inline"], ["--cancel"]])
def test_a_file_in_place_of_the_results_folder_is_told_by_the_sweep_command(
    words: list[str], write_sweep: WriteSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid())
    (tmp_path / "results").touch()
    assert sweep.main([str(path), "--results", str(tmp_path / "results"), *words]) == sweep.EXIT_USAGE
    assert f"{tmp_path}/results" in (line := said(capsys))
    assert "move it away, or name another path" in line


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device; free some space"),
        (errno.EDQUOT, "your quota is used up"),
        (errno.EROFS, "Read-only file system; it can only be read: name a folder elsewhere"),
        (errno.EACCES, "Permission denied; ask its owner"),
        (errno.ESTALE, "change into the folder anew"),
        (errno.EIO, "the disk or file server fails"),
    ],
)
def test_what_keeps_a_plan_from_being_written_is_told_with_the_file(
    number: int,
    advice: str,
    write_sweep: WriteSweep,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, path = files._write_atomic, write_sweep(clip_grid())

    def fail(target: Path, fill: Any) -> None:
        if target.name == "plan.json":
            raise OSError(number, os.strerror(number))  # as a write does, without a name
        write(target, fill)

    monkeypatch.setattr(files, "_write_atomic", fail)
    assert (
        sweep.main([str(path), "--results", str(tmp_path / "results"), "--cluster", "inline"]) == sweep.EXIT_USAGE
    )
    assert f"{tmp_path}/results/tiny/plan.json: " in (line := said(capsys))
    assert advice in line


COMMANDS: list[tuple[Callable[[list[str]], int], list[str]]] = [
    (sweep.main, ["FOLDER"]),
    (sweep.main, ["FILE/x.yaml", "--status"]),
    (sweep.main, ["check", "FOLDER/.."]),
    (pool.main, ["index", "FILE/x.tar"]),
    (pool.main, ["inspect", "FOLDER/none.tar"]),
    (coreset.main, ["export", "FOLDER", "--out", "FOLDER/x.csv"]),
    (coreset.main, ["export", "FILE/coreset.npz", "--out", "FOLDER/x.csv"]),
    (evaluate.main, ["FILE"]),
    (evaluate.main, ["FOLDER/none"]),
    (report.main, ["--results", "FILE"]),
    (report.main, ["--results", "FOLDER/none"]),
]


@pytest.mark.parametrize(
    ("main", "words"), COMMANDS, ids=lambda one: " ".join(one) if isinstance(one, list) else ""
)
def test_a_folder_for_a_file_or_a_file_for_a_folder_is_one_line(
    main: Callable[[list[str]], int], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    places = {"FOLDER": str(tmp_path / "folder"), "FILE": str(tmp_path / "file")}
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    assert main(words) == 2
    line = said(capsys)
    assert str(tmp_path) in line


def test_a_report_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Path(__file__).parent.parent / "results"
    (tmp_path / "out").touch()
    name = min(path.parent.name for path in results.glob("*/plan.json"))
    assert report.main(["--results", str(results), "--out", str(tmp_path / "out"), name]) == 2
    assert f"{tmp_path}/out" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("main", "words", "near"),
    [
        (sweep.main, ["x.yaml", "--statsu"], "did you mean '--status'?"),
        (sweep.main, ["doctr"], "did you mean 'doctor'?"),
        (sweep.main, ["doctor", "--profle=x"], "did you mean '--profile'?"),
        (pool.main, ["inspct"], "did you mean 'inspect'?"),
        (coreset.main, ["exprot"], "did you mean 'export'?"),
        (evaluate.main, ["x", "--task", "y", "--devcie", "cpu"], "did you mean '--device'?"),
        (report.main, ["--reslts", "x"], "did you mean '--results'?"),
    ],
)
def test_the_nearest_flag_or_command_is_named(
    main: Callable[[list[str]], int], words: list[str], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):  # as argparse leaves
        sys.exit(main(words))
    assert near in capsys.readouterr().err
