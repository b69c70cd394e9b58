"""Ranks meet through a file in the run's folder, and where that cannot be locked by a port that it names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import patience

RANK = """
import errno, sys
from pathlib import Path
import torch
from benchmark import dist, files
if sys.argv[2] == "no locks":
    def flock(descriptor, kind):
        raise OSError(errno.ENOLCK, "No locks available")
    files.fcntl.flock = flock
with dist.process_group(Path(sys.argv[1])):
    print(int(dist.gather(torch.tensor([dist.rank() + 1])).sum()))
"""


@pytest.mark.parametrize("has", ["locks", "no locks"])
def test_ranks_meet(has: str, tmp_path: Path) -> None:
    def start(rank: int) -> subprocess.Popen[str]:
        facts = {"JOB_ID": "7", "NTASKS": "2", "JOB_NUM_NODES": "1", "NODEID": "0"}
        of_rank = {"GLOBALID": str(rank), "LOCALID": str(rank)}
        own = {f"SUBMITIT_LOCAL_{key}": value for key, value in {**facts, **of_rank}.items()}
        environment = {**os.environ, **own, "SUBMITIT_EXECUTOR": "local"}
        words = [sys.executable, "-c", RANK, str(tmp_path / "job"), has]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)

    ranks = [start(rank) for rank in range(2)]
    try:
        assert [rank.communicate(timeout=patience(60))[0].split() for rank in ranks] == [["3"], ["3"]]
    finally:
        for rank in ranks:
            rank.kill()
    assert (tmp_path / "job" / "ranks-7-0.address").exists() == (has == "no locks")
