"""Submission on a real SLURM: limits, launchers that die, jobs that submit, edited code, an absent controller."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster import cluster, why_not
from patience import patience
from tiny import clip_grid

from benchmark import sweep
from benchmark.launch import sbatch
from benchmark.launch import submit as submitting
from benchmark.runs import submission
from benchmark.runs.record import read_record
from benchmark.slurm.jobs import TO_DO

pytestmark = pytest.mark.slurm
WriteSweep = Callable[..., Path]
Output = pytest.CaptureFixture[str]
ROOT = Path(__file__).parent.parent.parent
HELD = {"minutes": 15, "sbatch": {"hold": True}}
SHORT = {"epochs": 1}


def call(path: Path, *words: str) -> int:
    return sweep.main([str(path), "--results", str(path.parent / "results"), *words])


def command(path: Path, *words: str) -> list[str]:
    results = str(path.parent / "results")
    return [sys.executable, "-m", "benchmark.sweep", str(path), "--results", results, "--cluster", "slurm", *words]


def says(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def status(path: Path, capsys: Output, *words: str) -> str:
    capsys.readouterr()
    assert sweep.main([str(path), *(words or ("--results", str(path.parent / "results"))), "--status"]) == 0
    return " ".join(capsys.readouterr().out.split())


def wait_for(condition: Callable[[], object], what: str, seconds: float = 150) -> None:
    end = time.monotonic() + patience(seconds)
    while not condition():
        if time.monotonic() > end:
            queue = subprocess.run(["scontrol", "show", "job"], capture_output=True, text=True)
            pytest.fail(f"{what}; the queue: {queue.stdout}{queue.stderr}")
        time.sleep(0.5)


def jobs(path: Path, name: str = "tiny") -> list[str]:
    return sorted(
        json.loads(p.read_text())["job_id"] for p in path.parent.glob(f"results/{name}/*/job/submitted.json")
    )


def records(path: Path, name: str = "tiny") -> list[Path]:
    return sorted(path.parent.glob(f"results/{name}/*/record.json"))


def release(path: Path, name: str = "tiny") -> None:
    for array in {job_id.split("_")[0] for job_id in jobs(path, name)}:
        says("scontrol", "release", array)


@contextmanager
def first_in_path(folder: Path, name: str, text: str) -> Iterator[None]:
    """A shell script in a command's place."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


@pytest.fixture
def small_slurm() -> Iterator[dict[str, str]]:
    """One that takes arrays of six tasks and twenty jobs in all, forgets jobs at once and is soon given up."""
    if reason := why_not():
        if os.environ.get("CI"):
            pytest.fail(f"CI must test on a real SLURM: {reason}")
        pytest.skip(reason)
    with cluster(["MaxArraySize=6", "MaxJobCount=20", "MinJobAge=2", "MessageTimeout=2"]) as environment:
        before = os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = environment["SLURM_CONF"]
        yield environment
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


@pytest.mark.usefixtures("small_slurm")
def test_more_runs_than_the_cluster_takes_go_out_in_arrays_until_it_is_full_and_the_rest_later(
    write_sweep: WriteSweep, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sbatch, "PATIENCE_SECONDS", 1.5)
    path = write_sweep(clip_grid(seed=list(range(30)), launch={**HELD, "at_once": 10}))
    assert call(path, "--cluster", "slurm") == sweep.EXIT_LEFT
    said = " ".join(capsys.readouterr().err.split())
    queued = jobs(path)
    assert 15 <= len(queued) < 20
    assert len(set(queued)) == len(queued)
    assert sorted(says("squeue", "-h", "-r", "-o", "%i").split()) == queued
    assert f"{30 - len(queued)} runs remain; later, the same command submits them" in said
    first = says("scontrol", "show", "job", queued[0].split("_")[0])
    assert "ArrayTaskId=0-5%2" in first  # six of thirty runs: two of the ten that may run at once
    assert call(path, "--cluster", "slurm") == sweep.EXIT_LEFT  # it is still full
    assert sorted(says("squeue", "-h", "-r", "-o", "%i").split()) == queued
    assert call(path, "--cancel", "seed=[0,1,2,3,4,5,6,7,8,9,10,11]") == 0
    wait_for(lambda: len(says("squeue", "-h", "-r", "-t", "all", "-o", "%i").split()) <= 7, "purged", 120)
    capsys.readouterr()
    left = f"seed={list(range(12, 30))}".replace(" ", "")
    assert call(path, "--cluster", "slurm", left) == 0
    assert f"{30 - len(queued)} to run (slurm)" in capsys.readouterr().err
    assert len(says("squeue", "-h", "-r", "-o", "%i").split()) == 18
    assert call(path, "--cancel") == 0


@pytest.mark.usefixtures("slurm")
def test_jobs_of_a_launcher_that_died_are_taken_over_and_need_nothing_from_it(
    write_sweep: WriteSweep, capsys: Output, tmp_path: Path
) -> None:
    path = write_sweep(clip_grid(seed=[0, 1], launch=HELD, train=SHORT))
    with first_in_path(tmp_path / "bin", "sbatch", f'{shutil.which("sbatch")} "$@"; kill -9 $PPID'):
        assert subprocess.run(command(path), capture_output=True).returncode == -signal.SIGKILL
    assert jobs(path) == []
    assert "2 queued" in status(path, capsys)  # found by the name of the job
    assert call(path, "--cluster", "slurm") == 0
    assert "SLURM has it" in capsys.readouterr().err
    (array,) = {job_id.split("_")[0] for job_id in jobs(path)}
    assert says("squeue", "-h", "-r", "-o", "%F").split() == [array, array]
    release(path)
    wait_for(lambda: len(records(path)) == 2, "two records")


@pytest.mark.usefixtures("slurm")
def test_a_launcher_that_died_before_its_call_left_no_job_and_the_runs_go_out_once(
    write_sweep: WriteSweep, capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "SETTLE_SECONDS", 2.0)
    path = write_sweep(clip_grid(seed=[0, 1], launch=HELD))
    with first_in_path(tmp_path / "bin", "sbatch", "kill -9 $PPID"):
        assert subprocess.run(command(path), capture_output=True).returncode == -signal.SIGKILL
    assert call(path, "--cluster", "slurm") == 0
    assert "SLURM does not have it" in capsys.readouterr().err
    assert sorted(says("squeue", "-h", "-r", "-o", "%i").split()) == jobs(path)
    assert call(path, "--cancel") == 0


@pytest.mark.usefixtures("slurm")
def test_two_commands_at_once_submit_each_run_once_and_cancel_ends_this_sweep_alone(
    write_sweep: WriteSweep, capsys: Output
) -> None:
    others = write_sweep(clip_grid(seed=[7, 8], launch=HELD), name="others")
    assert call(others, "--cluster", "slurm") == 0
    path = write_sweep(clip_grid(seed=list(range(12)), launch=HELD))
    both = [subprocess.Popen(command(path), stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=patience(120)) for process in both] == [0, 0]
    theirs = jobs(others, "others")
    queued = says("squeue", "-h", "-r", "-t", "PD", "-o", "%i").split()
    assert sorted(queued) == sorted(jobs(path) + theirs)
    assert len(queued) == 14
    assert call(path, "--cancel") == 0
    assert sorted(says("squeue", "-h", "-r", "-t", "PD", "-o", "%i").split()) == theirs
    assert f"scontrol release {theirs[0]}" in status(others, capsys)
    assert call(others, "--cancel") == 0


@pytest.mark.usefixtures("slurm")
def test_a_job_can_submit_a_sweep_and_the_sweep_s_jobs_run(write_sweep: WriteSweep, tmp_path: Path) -> None:
    path = write_sweep(clip_grid(launch={"minutes": 15, "memory_gb": 1}, train=SHORT))
    wrapped = shlex.join(command(path))
    script = [
        "sbatch",
        "--mem-per-cpu=100",
        "--cpus-per-task=1",
        f"--chdir={ROOT}",
        f"--output={tmp_path}/wrapper",
    ]
    says(*script, "--export=ALL,SLURM_CPU_BIND=verbose", "--wrap", f"{wrapped} && echo sent")
    wait_for(lambda: (tmp_path / "wrapper").exists() and "sent" in (tmp_path / "wrapper").read_text(), "submitted")
    wait_for(lambda: records(path), "a record")


@pytest.mark.usefixtures("slurm")
def test_queued_and_requeued_jobs_run_the_code_as_it_was_submitted(
    write_sweep: WriteSweep, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    for name in ("benchmark", "baselines", "analysis"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    mine = (project / "baselines" / "full.py").read_text().replace("class Full", "class Mine")
    elsewhere = tmp_path / "methods" / "mine.py"
    elsewhere.parent.mkdir()
    elsewhere.write_text(mine)
    path = write_sweep(clip_grid(pruner="mine", launch=HELD, train=SHORT))
    words = [*command(path), "--methods", str(elsewhere.parent)]
    subprocess.run(words, cwd=project, check=True, capture_output=True)
    (job_id,) = jobs(path)
    code = project / "benchmark" / "job" / "process.py"
    code.write_text("raise RuntimeError('edited')\n" + code.read_text())
    elsewhere.unlink()
    says("scontrol", "release", job_id)
    wait_for(lambda: "R" in says("squeue", "-h", "-j", job_id, "-t", "all", "-o", "%t"), "it runs")
    says("scontrol", "requeuehold", job_id)  # in the midst of its start, or later

    def is_held() -> bool:
        state, _, reason = says("squeue", "-h", "-j", job_id, "-t", "all", "-o", "%t|%r").strip().partition("|")
        return state == "PD" and any(words.lower() in reason.lower() for words in TO_DO)

    wait_for(is_held, "it is held, and status has a word for it")
    time.sleep(3)  # a node takes a credential made in the second in which it revoked the last for revoked, too

    def has_record_at_last() -> bool:
        for words in (["release", job_id], ["update", f"jobid={job_id}", "starttime=now"]):
            subprocess.run(["scontrol", *words], capture_output=True)  # until SLURM has ended the first attempt
        return bool(records(path))

    wait_for(has_record_at_last, "a record")
    submitted = json.loads(next(path.parent.glob("results/*/*/job/submitted.json")).read_text())
    assert read_record(records(path)[0])["code"]["snapshot"] == submitted["snapshot"]


@pytest.mark.usefixtures("slurm")
def test_a_failing_run_leaves_the_others_of_its_array_alone_and_each_gets_the_gpus_it_asked_for(
    write_sweep: WriteSweep, capsys: Output
) -> None:
    launch = {"minutes": 15, "gpus": 2, "ranks": 1, "setup": ['echo "devices $CUDA_VISIBLE_DEVICES"']}
    grid = {"launch": launch, "train": SHORT}
    path = write_sweep(clip_grid(**grid, pool={"emoji": {"root": "/nowhere"}}), clip_grid(**grid, seed=[0, 1]))
    assert call(path, "--cluster", "slurm", "--anyway") == 0
    assert len({job_id.split("_")[0] for job_id in jobs(path)}) == 1
    assert "gpu:2" in says("scontrol", "show", "job", jobs(path)[0])
    wait_for(lambda: "1 failed" in (shown := status(path, capsys)) and "2 done" in shown, "two of three")
    logs = [p.read_text() for p in path.parent.glob("results/tiny/job/*_log.out")]
    assert sum(len(re.findall(r"devices \d,\d$", text, re.MULTILINE)) for text in logs) == 3
    assert "FileNotFoundError" not in status(path, capsys)


@pytest.mark.usefixtures("slurm")
def test_a_record_that_shows_late_is_never_taken_for_a_failure(write_sweep: WriteSweep, capsys: Output) -> None:
    path = write_sweep(clip_grid(launch={"minutes": 15}, train=SHORT))
    assert call(path, "--cluster", "slurm") == 0
    seen: list[str] = []
    lagging = Lagging(path.parent / "results", path.parent / "seen", seconds=6)

    def look() -> str:
        lagging.sync()
        shown = status(path, capsys, "--results", str(lagging.view))
        seen.append(shown.split("tiny: 1 runs, ")[1].split(" run ")[0])
        return seen[-1]

    wait_for(lambda: "done" in look(), f"done; seen {seen}")
    told = [state for i, state in enumerate(seen) if i == 0 or state != seen[i - 1]]
    assert told[-1] == "1 done"
    assert {"1 running", "1 queued", "1 absent", "1 done"} >= set(told), (
        told
    )  # absent: its submission shows late too
    assert "1 absent" not in told[1:]
    assert time.time() - records(path)[0].stat().st_mtime >= lagging.seconds


class Lagging:
    """A folder as a slow file system shows it on another machine: files appear, and change, seconds late."""

    def __init__(self, real: Path, view: Path, seconds: float) -> None:
        self.real, self.view, self.seconds = real, view, seconds

    def sync(self) -> None:
        for path in [p for p in self.real.rglob("*") if p.is_file()]:
            copy = self.view / path.relative_to(self.real)
            try:
                modified = path.stat().st_mtime
                if time.time() - modified >= self.seconds and not (
                    copy.exists() and copy.stat().st_mtime == modified
                ):
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, copy)
            except FileNotFoundError:  # a temporary file that was renamed meanwhile
                continue


def test_while_the_controller_is_away_nothing_fails_and_what_runs_goes_on(
    small_slurm: dict[str, str], write_sweep: WriteSweep, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "PAUSES", ())
    path = write_sweep(clip_grid(seed=[0, 1], launch={"minutes": 15}, train={"epochs": 40}))
    assert call(path, "--cluster", "slurm", "seed=0") == 0
    wait_for(lambda: "/40" in status(path, capsys), "it trains")
    os.kill(int((Path(small_slurm["SLURM_CONF"]).parent / "slurmctld.pid").read_text()), signal.SIGKILL)
    assert call(path, "--cluster", "slurm") == sweep.EXIT_LEFT  # the other run
    assert "1 runs remain" in capsys.readouterr().err
    shown = status(path, capsys)
    assert "SLURM does not answer" in shown
    assert not {"failed", "stopped", "absent"} & set(shown.split())
    wait_for(lambda: records(path), "the job ends without its controller")
    words = ["slurmctld", "-D", "-f", small_slurm["SLURM_CONF"]]
    quiet = subprocess.DEVNULL
    controller = subprocess.Popen(words, env=small_slurm, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        wait_for(lambda: subprocess.run(["squeue", "-h"], capture_output=True).returncode == 0, "it is back")
        assert "1 done" in status(path, capsys)
        assert call(path, "--cluster", "slurm") == 0
        assert "SLURM does not have it" in capsys.readouterr().err
        assert len(jobs(path)) == 2
        assert call(path, "--cancel") == 0
        wait_for(lambda: not says("squeue", "-h"), "the nodes report what ended meanwhile")
    finally:
        controller.send_signal(signal.SIGTERM)
        controller.wait(timeout=patience(30))
