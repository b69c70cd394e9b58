"""The sweep command as tests call it: here, or at work in another process that they look on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import patience

from benchmark import sweep
from benchmark.runs.lease import holder_of


def call(path: Path, *words: str) -> int:
    """The command on a sweep file, with results beside it."""
    return sweep.main([str(path), "--results", str(path.parent / "results"), *words])


def shown(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What ``--status``, or the command with other words, prints."""
    capsys.readouterr()
    assert call(path, *(words or ("--status",))) == 0
    return capsys.readouterr().out


class start:
    """The sweep command at work in another process, seen to hold a run, ended in the end."""

    def __init__(self, path: Path) -> None:
        words = [str(path), "--results", str(path.parent / "results"), "--cluster", "local", "--jobs", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmark.sweep", *words],
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a shell starts what runs behind
        )
        end = time.monotonic() + patience(60)
        while not self.held(path):
            assert time.monotonic() < end
            time.sleep(0.1)

    def held(self, path: Path) -> list[Path]:
        return [p for p in path.parent.glob("results/*/*/job/run.lock") if holder_of(p)]

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=patience(60))
