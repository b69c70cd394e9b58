"""The sweep command on a real SLURM of two nodes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import patience
from tiny import clip_grid, moco_grid

from benchmark import sweep
from benchmark.config.launch import LaunchConfig
from benchmark.launch.script import slurm_parameters
from benchmark.runs.attempts import attempts_of
from benchmark.runs.folder import RunFolder
from benchmark.runs.record import read_record

pytestmark = pytest.mark.slurm


def records(path: Path, count: int, seconds: float = 180) -> list[Path]:
    """Wait for the sweep's records."""
    end = time.monotonic() + patience(seconds)
    while len(found := sorted(path.parent.glob("results/*/*/record.json"))) < count:
        logs = [p.read_text()[-3000:] for p in path.parent.glob("results/*/job/*_log.out")]
        assert time.monotonic() < end, f"{len(found)} of {count} records; logs: {logs}"
        time.sleep(0.5)
    return found


def losses(record: Path) -> list[float]:
    lines = [json.loads(line) for line in (record.parent / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


@pytest.mark.usefixtures("slurm")
def test_runs_go_out_as_arrays_and_submission_returns_at_once(
    write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(seed=[0, 1, 2], launch={"minutes": 15}))
    words = [str(path), "--results", str(path.parent / "results"), "--cluster", "slurm"]
    assert sweep.main(words) == 0
    submitted = [json.loads(p.read_text())["job_id"] for p in path.parent.glob("results/*/*/job/submitted.json")]
    assert len({job.split("_")[0] for job in submitted}) == 1
    assert sweep.main(words) == 0  # a second call submits nothing: the runs are queued, running or done
    assert "0 to run (slurm)" in capsys.readouterr().err
    assert len(records(path, 3)) == 3
    assert sweep.main([*words[:3], "--status"]) == 0
    assert "3 runs, 3 done" in capsys.readouterr().out


@pytest.mark.usefixtures("slurm")
def test_what_no_node_has_is_said_before_anything_is_queued(
    write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid())
    words = [str(path), "--results", str(path.parent / "results"), "--cluster", "slurm"]
    for option, told in (
        ("gpus=4", "launch.gpus=4: a node of partition main has 2 at most"),
        ("cpus=3", "launch.cpus=3 for each of 1 ranks: a node of partition main has 2 cores at most"),
        ("memory_gb=4", "launch.memory_gb=4: a node of partition main has 3.9 GB at most"),
        ("nodes=4", "launch.nodes=4 of 1 cores: partition main gives 2 at most"),
    ):
        assert sweep.main([*words, f"launch.{option}"]) == sweep.EXIT_USAGE
        assert told in capsys.readouterr().err
    assert not list(path.parent.glob("results/*/job/submissions/*"))


@pytest.mark.usefixtures("slurm")
def test_two_tasks_on_two_nodes_give_the_losses_of_one_process(write_sweep: Callable[..., Path]) -> None:
    grid = clip_grid(pruner={"scan": {"warmup_threshold": 1.0}}, train={"epochs": 4})
    found = {}
    for name, nodes in (("alone", 1), ("shared", 2)):
        path = write_sweep({**grid, "launch": {"minutes": 15, "nodes": nodes}}, name=name)
        apart = path.parent / name  # in one folder of results the second would take the first one's run over
        apart.mkdir()
        path = path.rename(apart / path.name)
        assert sweep.main([str(path), "--results", str(path.parent / "results"), "--cluster", "slurm"]) == 0
        (found[name],) = records(path, 1)
    assert read_record(found["shared"])["num_ranks"] == 2
    assert losses(found["shared"]) == pytest.approx(losses(found["alone"]), abs=1e-5)
    kept = [[row["kept"] for row in read_record(r)["training"]["by_epoch"]] for r in found.values()]
    assert kept[0] == kept[1]


@pytest.mark.usefixtures("slurm")
def test_a_run_waits_in_the_queue_for_the_run_whose_coreset_it_takes(
    write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    scan = {"scan": {"warmup_threshold": 1.0}}
    coreset = {"coreset": {"runs": {"pruner": scan}, "keep_fraction": 0.5}}
    path = write_sweep(clip_grid(pruner=[coreset, scan], seed=[0, 1], launch={"minutes": 15}))
    words = [str(path), "--results", str(path.parent / "results"), "--cluster", "slurm"]
    assert sweep.main(words) == 0  # all four at once: nobody has to come back when the first two are done
    assert sweep.main([*words[:3], "--status"]) == 0
    shown = capsys.readouterr().out
    assert "waiting for" in " ".join(shown.split())
    found = {r["run"]: r for r in (read_record(p) for p in records(path, 4))}
    for record in found.values():
        for other in record["config"]["waits_for"]:
            assert record["started"] >= found[other]["finished"]


@pytest.mark.usefixtures("slurm")
def test_a_run_is_evaluated_by_a_job_that_waits_for_its_training(write_sweep: Callable[..., Path]) -> None:
    launch = {"minutes": 15, "nodes": 2, "evaluate": {"cpus": 2}}
    path = write_sweep(clip_grid(evaluate=[{"knn": {"dataset": "digits"}}], launch=launch))
    words = [str(path), "--results", str(path.parent / "results")]
    assert sweep.main([*words, "--cluster", "slurm"]) == 0  # both at once
    (record,) = records(path, 1)
    assert sweep.main([*words, "--watch"]) == 0
    found = read_record(record)
    (later,) = found["later_evaluations"]
    assert (found["num_ranks"], len(found["metrics"])) == (2, 1)
    assert later["started"] >= found["finished"]


@pytest.mark.usefixtures("slurm")
def test_a_run_that_waits_for_a_failed_one_leaves_the_queue(
    write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    scan = {"scan": {"warmup_threshold": 1.0}}
    nowhere = {"emoji": {"root": "/nowhere"}}
    path = write_sweep(
        clip_grid(pool=nowhere, pruner=[scan, {"coreset": {"runs": {"pruner": scan}}}], launch={"minutes": 15})
    )
    words = [str(path), "--results", str(path.parent / "results")]
    assert sweep.main([*words, "--cluster", "slurm", "--anyway"]) == 0
    end = time.monotonic() + patience(120)
    while sweep.main([*words, "--status"]) == 0:
        shown = " ".join(capsys.readouterr().out.split())
        if "1 blocked, 1 failed" in shown:
            break
        assert time.monotonic() < end, shown
        time.sleep(1)


def test_what_was_not_asked_for_is_left_to_the_cluster() -> None:
    plain = slurm_parameters(LaunchConfig(), "name")
    assert not {"partition", "account", "qos", "mem", "gpus_per_node"} & plain.keys()
    asked = slurm_parameters(
        LaunchConfig(gpus=4, cpus=8, memory_gb=64, partition="main", sbatch={"mail-type": "END"}), "x"
    )
    assert (asked["gpus_per_node"], asked["ntasks_per_node"], asked["cpus_per_task"]) == (4, 4, 8)
    assert asked["mem"] == "64GB"
    assert asked["additional_parameters"] == {"mail-type": "END", "requeue": True}


@pytest.mark.usefixtures("slurm")
def test_a_rehearsed_job_is_queued_again_and_goes_on_from_what_it_saved(
    write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(moco_grid(seed=[0, 1], train={"epochs": 4}, launch={"ranks": 2, "memory_gb": 3}))
    words = [str(path), "--results", str(path.parent / "results"), "--cluster", "slurm"]
    assert sweep.main([*words, "--rehearse"]) == 0
    (folder,) = path.parent.glob("results/.rehearsal/tiny/runs/moco-*")
    first, second = attempts_of(RunFolder(folder))
    assert first.was_stopped
    assert (second.job, second.restart) == (first.job, 1)
    assert 0 < (first.steps_end or 0) == second.steps_start
    ranks = [json.loads((folder / "job" / f"usage-{rank}.json").read_text()) for rank in (0, 1)]
    (shape,) = json.loads((folder.parents[1] / "rehearsal.json").read_text())["shapes"].values()
    assert shape["runs"] == 2
    assert shape["measured"]["usage"]["memory_bytes"] == sum(rank["memory_bytes"] for rank in ranks)
    assert "core hours for 2 runs" in capsys.readouterr().out
