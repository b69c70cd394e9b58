"""Nodes, daemons and ranks that are lost or hang, and memory that runs out: the run goes on, or says why not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cluster import node_daemon, start_node
from live_runs import (
    MINUTES_LONG,
    Output,
    WriteSweep,
    call,
    goes_back,
    gone,
    hook,
    log_of,
    says,
    state_of_job,
    submit,
    wait,
    works,
)
from patience import patience
from tiny import clip_grid

from benchmark import sweep
from benchmark.runs.attempts import attempts_of

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("no_jobs_left")]
ROOT = Path(__file__).parent.parent.parent


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
