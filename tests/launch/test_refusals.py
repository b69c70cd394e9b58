"""What sbatch, squeue and a site's own words mean: later, never, another cluster, or nothing at all."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from slurm_standin import SBATCH, Slurm
from sweeping import call, shown
from tiny import clip_grid

from benchmark import sweep

WriteSweep = Callable[..., Path]
Output = pytest.CaptureFixture[str]
POLICY = (
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size"
    " and/or time limits)"
)
BANNER = "*** Welcome to job 4711 of the day | News: 3|2|1 ***"


def jobs(path: Path) -> list[str]:
    return sorted(json.loads(p.read_text())["job_id"] for p in path.parent.glob("results/*/*/job/submitted.json"))


def intents(path: Path) -> list[Path]:
    return list(path.parent.glob("results/tiny/job/submissions/*.json"))


def says(fake: Slurm, last_line: str) -> None:
    """An sbatch that takes the job and has other words for it."""
    fake.write(
        "sbatch", f"#!{sys.executable}\n" + SBATCH.replace('print("Submitted batch job " + job)', last_line)
    )


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}", "launch.minutes"),
        (f"sbatch: error: AssocMaxWallDurationPerJobLimit\n{POLICY}", "launch.minutes"),
        (f"sbatch: error: QOSMaxGRESPerUser\n{POLICY}", "launch.gpus"),
        (f"sbatch: error: QOSMinGRES\n{POLICY}", "launch.gpus"),
        (f"sbatch: error: QOSMaxNodePerJobLimit\n{POLICY}", "launch.nodes"),
        (f"sbatch: error: QOSMaxCpuPerUserLimit\n{POLICY}", "launch.cpus"),
        (f"sbatch: error: QOSMinCpuNotSatisfied\n{POLICY}", "launch.cpus"),
        (f"sbatch: error: MaxMemoryPerAccount\n{POLICY}", "launch.memory_gb"),
        (f"sbatch: error: AssocGrpCPUMinutesLimit\n{POLICY}", "launch.minutes, gpus or account"),
        (
            "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some"
            " limit)",
            "launch.minutes",
        ),
        (
            "sbatch: error: Batch job submission failed: Requested node configuration is not available",
            "launch.gpus, cpus, memory_gb or constraint",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination",
            "launch.account",
        ),
        ("sbatch: error: invalid partition specified: gpu\n", "launch.partition"),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "launch.qos"),
    ],
)
def test_a_refusal_that_time_does_not_end_is_an_error_that_names_the_option_to_change(
    words: str, option: str, write_sweep: WriteSweep, fake: Slurm, capsys: Output
) -> None:
    path = write_sweep(clip_grid(seed=[0, 1]))
    fake.room(0, f"{BANNER}\n{words}")
    assert call(path, "--cluster", "slurm") == sweep.EXIT_USAGE
    said = capsys.readouterr().err
    assert f"change {option}" in said
    assert "Welcome" not in said
    assert not intents(path)


def test_a_limit_without_a_name_counts_jobs_only_if_others_went_out(
    write_sweep: WriteSweep, fake: Slurm, capsys: Output
) -> None:
    path = write_sweep(clip_grid(seed=[0, 1, 2]))
    fake.room(0, POLICY)
    assert call(path, "--cluster", "slurm") == sweep.EXIT_USAGE
    assert "it is unclear which limit" in capsys.readouterr().err
    fake.room(1, POLICY)
    assert call(path, "--cluster", "slurm") == sweep.EXIT_LEFT
    assert "2 runs remain; later, the same command submits them" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [f"print({BANNER!r} + '\\n' + 'Submitted batch job ' + job + '\\n' + {BANNER!r})", "print('thank you')"],
)
def test_what_a_site_says_around_the_job_s_number_or_in_its_place_changes_nothing(
    line: str, write_sweep: WriteSweep, fake: Slurm, capsys: Output
) -> None:
    says(fake, line)
    squeue = (fake.folder / "squeue").read_text()
    fake.write("squeue", squeue.replace("import json", f"print({BANNER!r})\nimport json", 1))
    path = write_sweep(clip_grid(seed=[0, 1]))
    assert call(path, "--cluster", "slurm") == 0
    assert jobs(path) == ["100_0", "100_1"]
    assert "2 queued" in shown(path, capsys)
    assert call(path, "--cluster", "slurm") == 0
    assert fake.arrays == [2]


def test_a_job_that_goes_to_another_cluster_is_taken_back_and_none_is_sent_twice(
    write_sweep: WriteSweep, fake: Slurm, capsys: Output
) -> None:
    says(fake, 'print("Submitted batch job " + job + " on cluster there")')
    fake.write("scancel", f'#!/bin/sh\necho "$@" > {fake.folder}/cancelled\n')
    path = write_sweep(clip_grid())
    assert call(path, "--cluster", "slurm") == sweep.EXIT_USAGE
    assert "sent job 100 to cluster there" in capsys.readouterr().err
    assert (fake.folder / "cancelled").read_text().split() == ["-M", "there", "100"]
    assert not intents(path)
    says(fake, 'print("Submitted batch job " + job + " on cluster here")')
    assert call(path, "--cluster", "slurm") == 0
    assert jobs(path) == ["101"]


@pytest.mark.parametrize("name", ["SLURM_CLUSTERS", "SBATCH_CLUSTERS"])
def test_clusters_of_the_environment_are_refused_but_the_own_one(
    name: str, write_sweep: WriteSweep, fake: Slurm, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sweep(clip_grid())
    monkeypatch.setenv(name, "there")
    assert call(path, "--cluster", "slurm") == sweep.EXIT_USAGE
    assert f"{name}=there: a sweep asks one cluster" in capsys.readouterr().err
    monkeypatch.setenv(name, "here")
    assert call(path, "--cluster", "slurm") == 0
    assert fake.arrays == [1]


@pytest.mark.parametrize(
    ("launch", "asked"), [({}, True), ({"requeue": False}, False), ({"no-requeue": True}, False)]
)
def test_every_job_asks_to_be_queued_again_unless_that_is_declined(
    launch: dict[str, bool], asked: bool, write_sweep: WriteSweep, fake: Slurm
) -> None:
    path = write_sweep(clip_grid(launch={"sbatch": {"comment": "x", **launch}}))
    assert call(path, "--cluster", "slurm") == 0
    (script,) = [p.read_text().splitlines() for p in path.parent.glob("results/tiny/job/submissions/*.sh")]
    assert ("#SBATCH --requeue" in script, "#SBATCH --no-requeue" in script) == (asked, not asked)
    assert "#SBATCH --comment=x" in script
