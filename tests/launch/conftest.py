"""A live cluster for each file of tests that asks for one, and SLURM's commands as scripts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from live_slurm import harsh_slurm, no_jobs_left, slurm
from slurm_standin import Slurm

from benchmark.launch import submit
from benchmark.runs import submission

__all__ = ["fake", "harsh_slurm", "no_jobs_left", "slurm"]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(submission, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(submit, "PAUSES", (0.0, 0.0))
    return Slurm(tmp_path / "bin")
