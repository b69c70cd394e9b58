"""What SLURM tells jobs, told to runs: each saves, goes back into the queue and goes on from there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_runs import (
    MINUTES_LONG,
    WriteSweep,
    call,
    finished,
    goes_back,
    gone,
    hook,
    log_of,
    says,
    state_of_job,
    story,
    submit,
    wait,
    works,
)
from tiny import clip_grid

from benchmark.config.sweepfile import read_sweep
from benchmark.plan.plan import make_plan
from benchmark.runs.attempts import attempts_of
from benchmark.runs.record import read_record

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("no_jobs_left")]
SECONDS_LONG = {"epochs": 250, "log_every": 5, "checkpoint_minutes": 0.05}


@contextmanager
def an_urgent_job() -> Iterator[str]:
    """Takes both nodes from whatever runs there."""
    words = ["sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null"]
    job_id = says(*words, "--wrap", "sleep 600")
    yield job_id
    says("scancel", job_id)


def test_a_run_that_is_signalled_requeued_preempted_and_cancelled_ends_as_one_that_was_not(
    write_sweep: WriteSweep, harsh_slurm: dict[str, str]
) -> None:
    scan = {"scan": {"warmup_threshold": 1.0}}
    grid = clip_grid(pruner=scan, train=SECONDS_LONG, evaluate=[{"retrieval": {"dataset": "shapes"}}])
    many = {**SECONDS_LONG, "num_workers": 2, "checkpoint_minutes": 10.0}  # only what is asked for saves
    path = write_sweep({**grid, "train": {**grid["train"], **many}, "launch": {"minutes": 30}}, name="harried")
    run, job_id = submit(path)

    works(run)  # F16: every process of the step gets the signal, the workers too
    says("scancel", "--signal=USR2", job_id)
    goes_back(run, job_id)
    ended = attempts_of(run.folder)[-1]
    assert ended.why == "stopped by USR2 or USR1"
    assert [p.stem for p in run.folder.glob("checkpoint/*.sha256")] == [f"step-{ended.steps_end:09d}"]
    assert log_of(run).count("is queued again") == 1

    works(run, 2)  # F5: an administrator's requeue; the process gets TERM, and saves
    says("scontrol", "requeue", job_id)
    goes_back(run, job_id)
    assert attempts_of(run.folder)[-1].why == "stopped by TERM, INT or HUP"

    works(run, 3)  # F3: preemption, by TERM
    with an_urgent_job():
        wait(run, "preempted", lambda: state_of_job(job_id) == "PENDING", 40)
    goes_back(run, job_id)
    assert attempts_of(run.folder)[-1].why == "stopped by TERM, INT or HUP"

    conf = Path(harsh_slurm["SLURM_CONF"])  # F2: preemption that sends the job's own signal, and leaves time
    graceful = conf.read_text().replace("PartitionName=main", "PartitionName=main GraceTime=60")
    conf.write_text(graceful + "SlurmctldParameters=preempt_send_user_signal\n")
    says("scontrol", "reconfigure")
    works(run, 4)
    with an_urgent_job():
        wait(run, "preempted", lambda: state_of_job(job_id) == "PENDING", 40)
    goes_back(run, job_id)
    assert attempts_of(run.folder)[-1].why == "stopped by USR2 or USR1"
    assert log_of(run).count("is queued again") == 2  # a job that ends in its time of grace is not put back

    works(run, 5)  # F9: cancelled is cancelled
    says("scancel", job_id)
    gone(run, job_id)
    assert attempts_of(run.folder)[-1].why == "stopped by TERM, INT or HUP"
    _, second = submit(path)
    assert second != job_id
    finished(run)
    ends = [(a.steps_start, a.steps_end) for a in attempts_of(run.folder)]
    assert [start for start, _ in ends[1:]] == [end for _, end in ends[:-1]]  # no step was trained twice
    assert [a.restart for a in attempts_of(run.folder)] == [0, 1, 2, 3, 4, 0]

    calm_path = write_sweep(grid, name="calm")
    (calm_path.parent / "calm").mkdir()  # apart, or it would take the other's run over
    calm_path = calm_path.rename(calm_path.parent / "calm" / calm_path.name)
    assert call(calm_path, "--cluster", "inline") == 0
    (calm,) = make_plan(read_sweep(calm_path), calm_path.parent / "results")
    assert story(run) == story(calm)


def test_a_run_goes_on_over_its_time_limit_and_its_two_ranks_have_their_cores(write_sweep: WriteSweep) -> None:
    launch = {"minutes": 30, "ranks": 2, "cpus": 1, "sbatch": {"signal": "USR2@10"}}
    path = write_sweep(clip_grid(train=MINUTES_LONG, launch=launch))
    run, job_id = submit(path)
    first = works(run)
    says("scontrol", "update", f"nodename={first.node}", "state=drain", "reason=maintenance")  # it ends its jobs
    step = says("scontrol", "show", "step", f"{job_id}.0")  # F25
    assert "CPUs=2 Tasks=2" in " ".join(step.split())
    assert "--cpus-per-task=1" in "".join(p.read_text() for p in run.folder.parent.glob("job/submissions/*.sh"))
    limit_in_seconds(job_id, 30)
    goes_back(run, job_id, 75)
    (ended,) = attempts_of(run.folder)
    assert ended.why == "stopped by USR2 or USR1"  # F1, and F27: both ranks stopped at one step
    assert log_of(run).count("is queued again") == 1
    says("scontrol", "update", f"jobid={job_id}", "timelimit=30")
    second = works(run, 2)
    assert first.steps_start == 0 < second.steps_start == ended.steps_end
    assert second.node != first.node  # F46
    says("scancel", job_id)
    gone(run, job_id)
    says("scontrol", "update", f"nodename={first.node}", "state=resume")


def test_a_features_pass_and_an_evaluation_that_are_signalled_go_on_where_they_stood(
    write_sweep: WriteSweep,
) -> None:
    digits = {"subset": {"of": "digits", "num_samples": 90}}
    grid = clip_grid(
        pool={"shapes": {"num_samples": 2500}},
        pruner=["full", {"semdedup": {"keep_fraction": 0.5, "clusters": 4}}],
        features={"run": {"pruner": "full"}},
        train={"epochs": 1, "batch_size": 200},
        evaluate=[{"linear_probe": {"dataset": digits, "recipe": "moco", "epochs": 1000, "flip": False}}],
    )
    path = write_sweep(grid)
    launch = {"minutes": 30, "setup": hook(path, "saves often"), "evaluate": {"minutes": 60}}
    path = write_sweep({**grid, "launch": launch})
    assert call(path, "--cluster", "slurm", "--only", "features-*") == 0  # and the run it waits for
    plan = make_plan(read_sweep(path), path.parent / "results")
    begun = [run for run in plan if (run.folder / "job" / "submitted.json").exists()]
    trained, evaluation, features = sorted(begun, key=lambda run: run.config.name)
    job, other = (
        json.loads((run.folder / "job" / "submitted.json").read_text())["job_id"] for run in (features, evaluation)
    )
    wait(features, "at its third chunk", lambda: len(list(features.folder.glob("chunks/*.npz"))) > 2)
    says("scancel", "--signal=USR2", job)
    wait(evaluation, "at its probe", lambda: list(trained.folder.glob("evaluating/*.pt")))
    says("scancel", "--signal=USR2", other)
    goes_back(features, job)
    goes_back(evaluation, other)
    for run, last in ((features, features.folder / "features.json"), (evaluation, trained.folder / "record.json")):
        wait(
            run,
            "at its end",
            lambda run=run: len(attempts_of(run.folder)) == 2 and attempts_of(run.folder)[1].ended,
        )
        first, second = attempts_of(run.folder)
        assert first.why == "stopped by USR2 or USR1"
        assert 0 < (first.steps_end or 0) == second.steps_start
        assert last.exists()
    assert "going on at epoch" in log_of(evaluation)
    assert {row["task"] for row in read_record(trained.folder / "record.json")["metrics"]} == {"linear_probe"}


def limit_in_seconds(job_id: str, least: int) -> None:
    """Give a job that is at work the lowest limit of whole minutes that leaves it ``least`` seconds."""
    clock = says("squeue", "-h", "-j", job_id, "-o", "%M").split(":")  # minutes and seconds
    worked = 60 * int(clock[-2]) + int(clock[-1])
    says("scontrol", "update", f"jobid={job_id}", f"timelimit={(worked + least) // 60 + 1}")
