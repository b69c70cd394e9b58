"""What SLURM does to jobs, done to runs: each goes on from its checkpoint, or says why it does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cluster import node_daemon, start_node
from patience import patience
from tiny import clip_grid

from benchmark import sweep
from benchmark.config.sweepfile import read_sweep
from benchmark.plan.plan import PlannedRun, make_plan
from benchmark.runs.attempts import Attempt, attempts_of
from benchmark.runs.record import read_record

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("harsh_slurm")]
WriteSweep = Callable[..., Path]
Output = pytest.CaptureFixture[str]
ROOT = Path(__file__).parent.parent.parent
MINUTES_LONG = {"epochs": 100_000, "log_every": 1, "checkpoint_minutes": 0.05}
SECONDS_LONG = {"epochs": 250, "log_every": 5, "checkpoint_minutes": 0.05}
HOOKS = Path(__file__).parent / "hooks"


def call(path: Path, *words: str) -> int:
    return sweep.main([str(path), "--results", str(path.parent / "results"), *words])


def submit(path: Path, *words: str) -> tuple[PlannedRun, str]:
    """The sweep's only run and its job."""
    assert call(path, "--cluster", "slurm", *words) == 0
    (run,) = make_plan(read_sweep(path, list(words)), path.parent / "results")
    return run, json.loads((run.folder / "job" / "submitted.json").read_text())["job_id"]


def says(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def state_of_job(job_id: str) -> str:
    done = subprocess.run(["squeue", "-h", "-j", job_id, "-o", "%T"], capture_output=True, text=True)
    return done.stdout.strip()


def log_of(run: PlannedRun) -> str:
    return "".join(p.read_text() for p in run.folder.parent.glob("job/*_log.out"))


def wait(run: PlannedRun, what: str, condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + patience(seconds)
    while not (found := condition()):
        if time.monotonic() > end:
            controller = (Path(os.environ["SLURM_CONF"]).parent / "slurmctld.log").read_text()
            jobs = says("scontrol", "show", "job", "-o")
            pytest.fail(f"not {what}; jobs: {jobs}; log: {log_of(run)[-4000:]}; controller: {controller[-4000:]}")
        time.sleep(0.2)
    return found


def works(run: PlannedRun, attempt: int = 1, steps: int = 5) -> Attempt:
    """Wait until the attempt has logged some steps of its own."""

    def begun() -> Attempt | None:
        found = attempts_of(run.folder)
        return found[-1] if len(found) == attempt else None

    this: Attempt = wait(run, f"at attempt {attempt}", begun)
    path = run.folder / "log.jsonl"
    start = path.stat().st_size if path.exists() and attempt > 1 else 0

    def grown() -> bool:
        return path.exists() and b"step" in path.read_bytes()[start:] and path.stat().st_size > start + 100 * steps

    wait(run, "training", grown)
    return this


def goes_back(run: PlannedRun, job_id: str, seconds: float = 40) -> None:
    """Wait until the job is back in the queue, and lift the two minutes for which SLURM holds it.

    Not before its processes are gone, and then some: a node tells credentials apart by their second, and takes one
    made in the second in which it revoked the last for revoked ("Job credential revoked").
    """
    wait(run, "queued again", lambda: state_of_job(job_id) == "PENDING", seconds)
    pid = attempts_of(run.folder)[-1].pid
    wait(run, "at an end", lambda: not Path(f"/proc/{pid}").exists(), seconds)
    time.sleep(3)
    subprocess.run(["scontrol", "update", f"jobid={job_id}", "starttime=now"], capture_output=True)


def finished(run: PlannedRun, seconds: float = 60) -> dict[str, Any]:
    wait(run, "done", (run.folder / "record.json").exists, seconds)
    return read_record(run.folder / "record.json")


def story(run: PlannedRun) -> list[Any]:
    """Every logged loss, and the final numbers."""
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    record = read_record(run.folder / "record.json")
    losses = [(line["kind"], line["epoch"], line.get("step"), line["loss"]) for line in lines]
    return [losses, record["metrics"], record["training"]["samples_seen"]]


def gone(run: PlannedRun, job_id: str) -> None:
    wait(run, "gone from the queue", lambda: state_of_job(job_id) in ("", "COMPLETED", "CANCELLED", "FAILED"), 30)


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


def test_a_run_goes_on_on_another_node_when_its_own_dies(
    write_sweep: WriteSweep, harsh_slurm: dict[str, str]
) -> None:
    path = write_sweep(clip_grid(train={**MINUTES_LONG, "checkpoint_minutes": 0.0}, launch={"minutes": 30}))
    run, job_id = submit(path)
    first = works(run)
    lose_power(first.node, harsh_slurm)
    try:
        wait(run, "queued again", lambda: state_of_job(job_id) == "PENDING", 60)
        goes_back(run, job_id)
        second = works(run, 2)
        assert second.node != first.node
        assert second.steps_start > 0
        assert attempts_of(run.folder)[0].why == "without a word"
    finally:
        subprocess.run(["scancel", job_id], check=True)
        _ENDED_LATER.append(start_node(first.node, harsh_slurm))
        gone(run, job_id)
        wait(
            run, "a whole cluster", lambda: says("sinfo", "-h", "-N", "-p", "main", "-o", "%t") == "idle\nidle", 60
        )


def test_one_run_in_two_jobs_is_worked_on_once_also_while_a_daemon_starts_again(
    write_sweep: WriteSweep, harsh_slurm: dict[str, str], capsys: Output
) -> None:
    path = write_sweep(clip_grid(train=MINUTES_LONG, launch={"minutes": 30}))
    run, job_id = submit(path)
    this = works(run)
    os.kill(node_daemon(this.node, harsh_slurm), signal.SIGKILL)  # F26: the daemon alone
    words = [sys.executable, "-m", "benchmark.job", str(run.folder)]
    wrap = f"cd {ROOT} && {' '.join(words)}; echo exit $?"
    out = path.parent / "second.out"
    other = next(node for node in ("n1", "n2") if node != this.node)
    says("sbatch", f"--nodelist={other}", f"--output={out}", "--wrap", wrap)  # F22: a second job for the run
    _ENDED_LATER.append(start_node(this.node, harsh_slurm))
    wait(run, "turned away", lambda: out.exists() and "exit" in out.read_text())
    assert f'"job": "{job_id}"' in out.read_text()
    assert "leaving it alone" in out.read_text()
    works(run, 1, steps=20)
    assert state_of_job(job_id) == "RUNNING"
    assert len(attempts_of(run.folder)) == 1
    assert call(path, "--status") == 0
    assert "1 running" in capsys.readouterr().out
    says("scancel", job_id)
    gone(run, job_id)
    capsys.readouterr()
    assert call(path, "--status") == 0
    assert "1 stopped" in capsys.readouterr().out


def hook(path: Path, what: str) -> list[str]:
    return [f"export PYTHONPATH={HOOKS} TEST_SWEEP={path.parent / 'results' / 'tiny'} TEST_HOOK='{what}'"]


def test_a_rank_that_dies_ends_the_others_at_once(write_sweep: WriteSweep, capsys: Output) -> None:
    path = write_sweep(clip_grid())
    launch = {"minutes": 30, "nodes": 2, "setup": hook(path, "rank 1 exits")}
    path = write_sweep(clip_grid(train=MINUTES_LONG, launch=launch))
    run, job_id = submit(path)
    wait(run, "begun", lambda: (run.folder / "log.jsonl").exists())
    wait(run, "over", lambda: state_of_job(job_id) in ("", "FAILED", "COMPLETED"), 20)
    assert "error: n" in log_of(run)
    assert call(path, "--status") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 failed" in shown or "1 stopped" in shown


def test_a_rank_that_hangs_sends_the_job_back_with_every_rank_s_stack_and_the_run_goes_on(
    write_sweep: WriteSweep,
) -> None:
    path = write_sweep(clip_grid())
    launch = {"minutes": 30, "nodes": 2, "hang_minutes": 0.2, "setup": hook(path, "rank 1 hangs")}
    path = write_sweep(clip_grid(train={**MINUTES_LONG, "checkpoint_minutes": 0.1}, launch=launch))
    run, job_id = submit(path)
    works(run)
    goes_back(run, job_id, 60)
    (ended,) = attempts_of(run.folder)
    assert str(ended.why).startswith("stopped by launch.hang_minutes")
    logs = [log.read_text() for log in sorted(run.folder.parent.glob(f"job/{job_id}_*_log.out"))]
    assert [text.count("no step has ended for 0.2 minutes") for text in logs] == [1, 1]
    assert ["sitecustomize.py" in text.rpartition("no step has ended")[2] for text in logs] == [False, True]
    second = works(run, 2)
    assert 0 < (ended.steps_end or 0) == second.steps_start
    says("scancel", job_id)
    gone(run, job_id)


def test_a_run_that_takes_too_much_memory_says_so_and_is_not_tried_again_unchanged(
    write_sweep: WriteSweep, capsys: Output
) -> None:
    path = write_sweep(clip_grid())
    launch = {"minutes": 30, "memory_gb": 1, "setup": hook(path, "takes memory")}
    path = write_sweep(clip_grid(train=MINUTES_LONG, launch=launch))
    run, job_id = submit(path)
    works(run)
    gone(run, job_id)
    capsys.readouterr()
    assert call(path, "--status") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 failed" in shown
    assert "killed for want of memory" in shown
    assert call(path, "--cluster", "slurm", "--retry") == sweep.EXIT_FAILED
    assert "0 to run" in capsys.readouterr().err
    assert call(path, "--dry-run", "launch.memory_gb=2") == 0
    assert "1 stopped" in " ".join(capsys.readouterr().out.split())


_ENDED_LATER: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True, scope="module")
def _end_daemons(harsh_slurm: dict[str, str]) -> Iterator[None]:
    """Daemons that tests started are ended before the cluster is."""
    yield
    for daemon in _ENDED_LATER:
        daemon.terminate()
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(timeout=patience(10))


def lose_power(node: str, environment: dict[str, str]) -> None:
    """SIGKILL a node's daemon, its steps and all they started. No other node may have steps."""
    found = [node_daemon(node, environment), *step_daemons(environment)]
    for parent in found:
        with suppress(OSError):
            text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
            found += [int(word) for word in text.split()]
    for process in found:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def step_daemons(environment: dict[str, str]) -> list[int]:
    """This cluster's slurmstepd processes; they are nobody's children."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_step = proc.joinpath("cmdline").read_bytes().startswith(b"slurmstepd: [")
            if (
                is_step
                and f"SLURM_CONF={environment['SLURM_CONF']}".encode() in proc.joinpath("environ").read_bytes()
            ):
                found.append(int(proc.name))
    assert found
    return found
