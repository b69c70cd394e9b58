"""Cluster profiles: where they are found, what wins over them, what a mistake in one says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import clip_grid

from benchmark import sweep
from benchmark.config.launch import LaunchConfig
from benchmark.config.memory import memory_of
from benchmark.config.sweepfile import read_sweep
from benchmark.launch.script import slurm_parameters
from benchmark.options import build

WriteSweep = Callable[..., Path]


def launch_of(path: Path, *overrides: str) -> LaunchConfig:
    return read_sweep(path, overrides).grids[0].launch


def write(path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(options))
    return path


def test_the_command_line_wins_over_the_grid_over_its_profile(write_sweep: WriteSweep, tmp_path: Path) -> None:
    write(tmp_path / "big.yaml", partition="gpu", minutes=600, cpus=8, sbatch={"comment": "a", "mail-type": "END"})
    path = write_sweep(clip_grid(launch={"profile": "big", "minutes": 30, "sbatch": {"comment": "b"}}))
    launch = launch_of(path, "launch.cpus=2")
    assert (launch.partition, launch.minutes, launch.cpus) == ("gpu", 30, 2)
    assert launch.sbatch == {"comment": "b", "mail-type": "END"}
    assert launch_of(path, "launch.profile=null").partition is None


def test_a_profile_is_found_beside_the_sweep_in_named_folders_or_by_its_path(
    write_sweep: WriteSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sweep(clip_grid())
    write(tmp_path / "site" / "ours.yaml", partition="site")
    monkeypatch.setenv("SCAN_BENCH_CLUSTERS", f"{tmp_path}/none:{tmp_path}/site")
    assert launch_of(path, "launch.profile=ours").partition == "site"
    write(tmp_path / "ours.yaml", partition="beside")
    assert launch_of(path, "launch.profile=ours").partition == "beside"
    assert launch_of(path, "launch.profile=site/ours.yaml").partition == "site"
    assert launch_of(path, f"launch.profile={tmp_path}/site/ours.yaml").partition == "site"
    assert launch_of(path, "launch.profile=example").gpus == 4  # the project's own


@pytest.mark.parametrize("line", ["export A=${HOME}/x", r"echo \${HOME}", r"echo \\${HOME}", "$HOME", "${env:X}"])
def test_a_shell_s_variables_in_set_up_lines_are_left_to_the_shell(
    line: str, write_sweep: WriteSweep, tmp_path: Path
) -> None:
    write(tmp_path / "mine.yaml", setup=[line])
    launch = launch_of(write_sweep(clip_grid()), "launch.profile=mine")
    assert launch.setup == [line]
    assert build(LaunchConfig, dataclasses.asdict(launch), "again") == launch


@pytest.mark.parametrize(
    ("profile", "options", "message"),
    [
        ("exampel", {}, "grid[0].launch.profile: unknown profile 'exampel'; did you mean 'example'? (known: "),
        ("here/there.yaml", {}, "grid[0].launch.profile: here/there.yaml: no such file"),
        ("mine", {"partiton": "gpu"}, "mine.yaml.partiton: unknown option; did you mean 'partition'?"),
        ("mine", {"minutes": 0}, "mine.yaml: minutes must be at least 1"),
        ("mine", {"sbatch": {"time": "1:00"}}, "mine.yaml: sbatch.time: say launch.minutes instead"),
        ("mine", {"srun": {"--cpu-bind": "none"}}, "mine.yaml: srun.--cpu-bind: write it without its dashes"),
        (
            "mine",
            {"partition": "gpu\n#SBATCH --uid=0"},
            "mine.yaml: partition: expected one line of printable text",
        ),
        ("mine", {"sbatch": {"comment": "a\nrm x"}}, "mine.yaml: sbatch.comment: expected one line of printable"),
        ("mine", {"sbatch": {"x\nrm": "a"}}, "mine.yaml: sbatch.'x\\nrm': no option of SLURM's is written like"),
        (
            "mine",
            {"srun": {"mpi": "a\rb"}},
            "mine.yaml: srun.mpi: expected one line of printable text, got 'a\\rb'",
        ),
        (
            "mine",
            {"memory_gb": 4, "sbatch": {"mem-per-cpu": "2G"}},
            "mine.yaml: memory_gb and sbatch.mem-per-cpu both say how much memory a job gets: say one",
        ),
        (
            "mine",
            {"sbatch": {"mem": "1G", "mem_per_gpu": "2G"}},
            "mine.yaml: sbatch.mem and sbatch.mem-per-gpu both",
        ),
        (
            "mine",
            {"sbatch": {"mem-per-gpu": "2G"}},
            "mine.yaml: sbatch.mem-per-gpu: asks for nothing without gpus",
        ),
        ("mine", {"sbatch": {"mem-per-cpu": "much"}}, "mine.yaml: sbatch.mem-per-cpu: expected a size such as"),
        ("mine", {"sbatch": {"cpus-per-gpu": 4}}, "mine.yaml: sbatch.cpus-per-gpu: say launch.cpus instead"),
        ("mine", {"sbatch": {"requeue": True, "no-requeue": True}}, "mine.yaml: sbatch: requeue and no-requeue"),
        ("mine", {"sbatch": {"clusters": "gpu"}}, "mine.yaml: sbatch.clusters: a sweep asks one cluster about"),
        ("mine", {"profile": "example"}, "mine.yaml.profile: unknown option"),
    ],
)
def test_a_mistake_in_a_profile_is_one_error_with_its_path(
    profile: str,
    options: dict[str, Any],
    message: str,
    write_sweep: WriteSweep,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "mine.yaml", **(options or {"cpus": 1}))
    path = write_sweep(clip_grid())
    assert sweep.main([str(path), "--dry-run", "--profile", profile]) == sweep.EXIT_USAGE
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_a_profile_changes_no_run_s_name_and_shows_in_the_plan(
    write_sweep: WriteSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid())
    words = [str(path), "--results", str(tmp_path / "results"), "--dry-run"]
    assert sweep.main(words) == 0
    plain = capsys.readouterr().out
    assert sweep.main([*words, "--profile", "example", "train.batch_size=8"]) == 0
    profiled = capsys.readouterr().out
    (name,) = {word for word in plain.split() if word.startswith("clip-")}
    assert name in profiled
    assert "4 GPU, 24 h" in profiled
    assert "at most 96 by their time limits" in profiled


def test_srun_options_reach_submitit() -> None:
    launch = LaunchConfig(srun={"cpu-bind": "none", "exclusive": True, "overlap": False})
    assert {"--cpu-bind=none", "--exclusive"} <= set(slurm_parameters(launch, "x")["srun_args"])
    assert "--overlap" not in slurm_parameters(launch, "x")["srun_args"]


@pytest.mark.parametrize(
    ("launch", "gb"),
    [
        (LaunchConfig(), None),
        (LaunchConfig(memory_gb=8), 8),
        (LaunchConfig(cpus=2, ranks=3, sbatch={"mem-per-cpu": "512M"}), 3),
        (LaunchConfig(gpus=4, sbatch={"mem_per_gpu": "16g"}), 64),
        (LaunchConfig(sbatch={"mem": 2048}), 2),
        (LaunchConfig(sbatch={"mem": "1.5TB"}), 1536),
        (LaunchConfig(sbatch={"mem": 0}), float("inf")),
    ],
)
def test_memory_is_counted_a_node_whichever_option_says_it(launch: LaunchConfig, gb: float | None) -> None:
    assert memory_of(launch).gb == gb
