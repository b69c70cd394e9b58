"""What can never start, or would fail when it begins, is said before anything is submitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slurm_standin import Slurm
from sweeping import call, shown
from tiny import clip_grid

from benchmark import sweep

WriteSweep = Callable[..., Path]
Output = pytest.CaptureFixture[str]
NODE = (
    "NodeName={} CPUTot=8 AvailableFeatures=a100 Gres=gpu:{} RealMemory=32000 Partitions=main,slow Reason=CPUTot=9"
)
PARTITION = "PartitionName=main Default=YES MaxNodes=UNLIMITED MaxTime=1-00:00:00 MaxMemPerNode=UNLIMITED"


def small(fake: Slurm) -> None:
    fake.has("node", NODE.format("n1", "a100:2(S:0-1)"), NODE.format("n2", "0"))
    fake.has(
        "partition", PARTITION, PARTITION.replace("main", "slow").replace("YES", "NO").replace("1-00", "7-00")
    )


@pytest.mark.parametrize(
    ("launch", "words"),
    [
        ({"gpus": 4}, "launch.gpus=4: a node of partition main has 2 at most"),
        (
            {"cpus": 5, "ranks": 2},
            "launch.cpus=5 for each of 2 ranks: a node of partition main has 8 cores at most",
        ),
        ({"memory_gb": 64}, "launch.memory_gb=64: a node of partition main has 31.2 GB at most"),
        (
            {"cpus": 8, "sbatch": {"mem-per-cpu": "5G"}},
            "launch.sbatch.mem-per-cpu=5G on 8 cores: a node of partition main has 31.2 GB at most",
        ),
        ({"minutes": 2880}, "launch.minutes=2880: partition main gives 1440 at most"),
        ({"constraint": "h100"}, "launch.constraint=h100: no node of partition main has it"),
        ({"nodes": 4}, "launch.nodes=4 of 1 cores: partition main gives 2 at most"),
        ({"nodes": 2, "gpus": 1}, "launch.nodes=2 of 1 cores, 1 GPUs: partition main gives 1 at most"),
    ],
)
def test_what_no_node_can_give_is_refused_and_told_by_a_dry_run(
    launch: dict[str, Any], words: str, write_sweep: WriteSweep, fake: Slurm, capsys: Output
) -> None:
    small(fake)
    path = write_sweep(clip_grid(seed=[0, 1], launch=launch))
    assert call(path, "--cluster", "slurm") == sweep.EXIT_USAGE
    said = capsys.readouterr().err
    assert f"and 1 runs like it would never start: {words}" in said
    assert "--anyway" in said
    assert fake.arrays == []
    assert words in shown(path, capsys, "--dry-run", "--cluster", "slurm")
    assert call(path, "--cluster", "slurm", "--anyway") == 0
    assert fake.arrays == [2]


@pytest.mark.parametrize(
    "launch", [{"gpus": 2, "minutes": 1440}, {"partition": "main,slow", "minutes": 2880}, {"partition": "hidden"}]
)
def test_what_some_partition_can_give_goes_out(
    launch: dict[str, Any], write_sweep: WriteSweep, fake: Slurm
) -> None:
    small(fake)
    assert call(write_sweep(clip_grid(launch=launch)), "--cluster", "slurm") == 0
    assert fake.arrays == [1]


ABSENT = {"webdataset": {"name": "elsewhere", "num_samples": 64, "shards": "/nowhere/{0..9}.tar"}}


def test_a_pool_that_is_absent_is_refused_unless_the_jobs_have_it(
    write_sweep: WriteSweep, fake: Slurm, capsys: Output
) -> None:
    path = write_sweep(clip_grid(pool=ABSENT, seed=[0, 1]))
    for cluster in ("slurm", "local", "inline"):
        assert call(path, "--cluster", cluster) == sweep.EXIT_USAGE
        said = capsys.readouterr().err
        assert "pool elsewhere: elsewhere: /nowhere/0.tar is not there" in said
        assert "(2 runs: " in said
    assert not list(path.parent.glob("results/tiny/*/error.json"))
    assert "/nowhere/0.tar is not there" in shown(path, capsys, "--dry-run")
    assert call(path, "--cluster", "slurm", "--anyway") == 0
    assert fake.arrays == [2]


def test_an_evaluation_set_that_is_absent_is_told_and_the_runs_go_out(
    write_sweep: WriteSweep, fake: Slurm, capsys: Output, tmp_path: Path
) -> None:
    tasks = [
        {"zero_shot": {"dataset": {"imagenet": {"root": str(tmp_path / "none")}}}},
        {"knn": {"dataset": "digits"}},
    ]
    path = write_sweep(clip_grid(evaluate=tasks))
    assert "not on this machine: evaluation zero_shot" in shown(path, capsys, "--dry-run")
    assert call(path, "--cluster", "slurm") == 0
    said = capsys.readouterr().err
    assert said.count("not on this machine") == 1
    assert str(tmp_path / "none") in said
    assert fake.arrays == [1]
