"""Jobs in surroundings that others have: an empty environment, paths with links, blanks and SLURM's own marks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import patience
from tiny import clip_grid

from benchmark import sweep
from benchmark.files import absolute
from benchmark.runs.record import read_record


def test_a_path_keeps_the_links_by_which_the_user_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mounted" / "x").mkdir(parents=True)
    home = tmp_path / "home"
    home.symlink_to(tmp_path / "mounted")
    monkeypatch.chdir(home)
    monkeypatch.setenv("PWD", str(home))
    assert absolute(Path("results")) == home / "results"
    assert absolute(Path("x/../results")) == home / "results"
    assert absolute(home / "x") == home / "x"
    monkeypatch.setenv("PWD", "/")  # left behind by a program that changed the folder
    assert absolute(Path("results")) == tmp_path / "mounted" / "results"


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm")
def test_ranks_run_with_an_empty_environment_and_from_a_folder_with_links_blanks_and_marks(
    write_sweep: Callable[..., Path], tmp_path: Path
) -> None:
    real = tmp_path / "50%john's %j"
    real.mkdir()
    home = tmp_path / "my home"
    home.symlink_to(real)
    launch = {"minutes": 15, "ranks": 2, "sbatch": {"export": "NONE"}}
    path = write_sweep(clip_grid(launch=launch, train={"epochs": 1}))
    for results in (real / "results", home / "by link"):
        assert sweep.main([str(path), "--results", str(results), "--cluster", "slurm"]) == 0
    end = time.monotonic() + patience(180)
    while len(records := list(real.glob("*/tiny/*/record.json"))) < 2:
        logs = [p.read_text()[-2000:] for p in real.glob("*/tiny/job/*_log.out")]
        assert time.monotonic() < end, f"{records}; logs: {logs}"
        time.sleep(0.5)
    assert [read_record(record)["num_ranks"] for record in records] == [2, 2]
    logs = [name for name in os.listdir(real / "results" / "tiny" / "job") if name.endswith("_0_log.out")]
    assert len(logs) == 1
    (script,) = (home / "by link" / "tiny" / "job").glob("submissions/*.sh")
    assert str(home) in script.read_text()
    assert str(real) not in script.read_text()
