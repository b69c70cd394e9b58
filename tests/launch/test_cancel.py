"""What --cancel ends, and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import patience
from sweeping import call, shown, start
from tiny import clip_grid

from benchmark import sweep
from benchmark.runs.lease import lease

WriteSweep = Callable[..., Path]

Output = pytest.CaptureFixture[str]


@pytest.mark.slow
def test_cancel_ends_the_processes_of_this_sweep_and_no_others(write_sweep: WriteSweep, capsys: Output) -> None:
    path = write_sweep(clip_grid(seed=[0, 1], train={"epochs": 4000}))
    with start(path) as process:
        bystander = subprocess.Popen(["sleep", "60"])
        with lease(
            path.parent / "results" / "tiny" / "job" / "local-x-1.lock"
        ):  # ours, but it names another process
            lock = path.parent / "results" / "tiny" / "job" / "local-x-1.lock"
            holder = json.loads(lock.read_text())
            lock.write_text(json.dumps({**holder, "pid": bystander.pid}))
            capsys.readouterr()
            assert call(path, "--cancel") == sweep.EXIT_FAILED
        out = capsys.readouterr().out
        assert f"process {process.pid}" in out
        assert f"process {bystander.pid} does not hold" in out
        assert process.wait(timeout=patience(60)) == 130
        assert bystander.poll() is None
        bystander.kill()
        bystander.wait()
    assert call(path, "--cancel") == 0
    assert "nothing of this sweep" in capsys.readouterr().out
    assert "failed" not in shown(path, capsys)
