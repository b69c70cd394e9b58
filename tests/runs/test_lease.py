"""A run's lease: held by its lock where nodes share locks, by a heartbeat and SLURM's word where they do not."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import patience
from tiny import clip_grid

from benchmark.job import process
from benchmark.plan.plan import PlannedRun
from benchmark.runs import lease
from benchmark.runs.lease import HeldError, holder_of, is_held
from benchmark.slurm.jobs import QueuedJob
from benchmark.status import standing
from benchmark.status.queue import Queue

Plan = Callable[..., list[PlannedRun]]


@pytest.fixture
def left(tmp_path: Path) -> Callable[..., Path]:
    """A lease as a process that was killed leaves it."""

    def leave(age: float = 0.0, path: Path = tmp_path / "run.lock", **changes: Any) -> Path:
        holder = {"host": "elsewhere", "pid": 7, "job": "12_3", "restart": 0, "beats": True, **changes}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(holder))
        os.utime(path, (time.time() - age, time.time() - age))
        return path

    return leave


@pytest.fixture
def slurm_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    def say(state: str | None) -> None:
        found = None if state is None else {"JobState": state} if state else {}
        monkeypatch.setattr(lease.jobs, "facts", lambda _job: found)

    return say


def is_taken(path: Path) -> bool:
    try:
        with lease.lease(path, wait_seconds=0.0):
            return False
    except HeldError:
        return True


OLD = lease.STALE_SECONDS + 60


@pytest.mark.parametrize(
    ("age", "changes", "state", "taken"),
    [
        (10, {}, "", True),  # a young heartbeat from a machine whose locks are not seen here
        (OLD, {}, "RUNNING", True),  # a silent process, but SLURM runs its job
        (OLD, {}, None, True),  # SLURM does not answer
        (OLD, {}, "", False),  # SLURM has forgotten the job
        (OLD, {}, "PENDING", False),  # it waits in the queue: no process of it is left
        (OLD, {"job": None}, None, False),  # no job, no heartbeat
        (10, {"host": socket.gethostname()}, "RUNNING", False),  # the lock is ours: no process here has it
        (10, {"beats": False}, "RUNNING", False),
    ],
)
def test_a_lease_without_a_lock_holds_as_long_as_its_holder_may_live(
    age: float,
    changes: dict[str, Any],
    state: str | None,
    taken: bool,
    left: Callable[..., Path],
    slurm_says: Callable[[str | None], None],
) -> None:
    slurm_says(state)
    assert is_taken(left(age, **changes)) == taken


def test_a_child_that_outlives_its_parent_does_not_keep_the_lease(tmp_path: Path) -> None:
    path, (reads, writes) = tmp_path / "run.lock", os.pipe()
    parent = os.fork()
    if parent == 0:
        with lease.lease(path):
            if os.fork() == 0:  # a loader's worker
                os.write(writes, str(os.getpid()).encode())
                time.sleep(60)
                os._exit(0)
            time.sleep(60)
        os._exit(0)
    worker = int(os.read(reads, 20))
    try:
        assert is_taken(path)
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        assert Path(f"/proc/{worker}").exists()
        assert not is_held(path)
        assert not is_taken(path)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_heartbeat_is_as_old_as_its_file_system_says(
    left: Callable[..., Path],
    slurm_says: Callable[[str | None], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slurm_says("COMPLETED")
    young, ahead = (
        left(),
        left(age=-3600, path=tmp_path / "ahead.lock"),
    )  # touched by a clock that was an hour ahead
    monkeypatch.setattr(lease.time, "time", lambda: 0.0)  # this machine's own clock is decades behind
    assert is_held(young)
    assert not is_held(ahead)


def test_the_next_attempt_of_a_job_takes_over_from_the_last(
    left: Callable[..., Path], slurm_says: Callable[[str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm_says("RUNNING")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert not is_taken(left(10))  # its node died ten seconds ago
    assert is_taken(left(10, restart=1))


def test_a_lease_is_touched_while_it_is_held_and_names_nobody_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.02)
    path = tmp_path / "run.lock"
    with lease.lease(path):
        os.utime(path, (0, 0))
        end = time.monotonic() + patience(10)
        while path.stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.01)
        holder = holder_of(path)
        assert holder is not None
        assert holder["pid"] == os.getpid()
    assert holder_of(path) is None
    assert not is_held(path)


def test_a_process_whose_lease_was_taken_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.02)
    path = tmp_path / "run.lock"
    child = os.fork()
    if child == 0:
        try:
            with lease.lease(path):
                path.write_text(json.dumps({"host": "elsewhere", "pid": 8}))
                time.sleep(30)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == lease.LOST


def test_a_run_that_is_held_elsewhere_is_left_alone(
    planned: Plan, left: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    (run,) = planned(clip_grid())
    left(10, run.folder / "job" / "run.lock")
    assert process.run(run.folder) == "held"
    assert "12_3" in caplog.text
    assert not (run.folder / "log.jsonl").exists()


def test_status_does_not_wait_for_the_heartbeat_of_a_job_that_slurm_has_ended(
    planned: Plan, left: Callable[..., Path], slurm_says: Callable[[str | None], None]
) -> None:
    slurm_says("NODE_FAIL")
    (run,) = planned(clip_grid())
    left(10, run.folder / "job" / "run.lock")
    name = run.config.name
    alive = Queue({name: QueuedJob("12_3", "RUNNING", 0, "None")}, {name: "12_3"})
    assert standing.with_states([run], alive)[0].state.name == "running"
    assert standing.with_states([run], Queue({}, {name: "12_3"}, "away"))[0].state.name == "running"
    (gone,) = standing.with_states([run], Queue({}, {name: "12_3"}))
    assert gone.state.name == "stopped"
    assert "its node failed" in gone.state.detail
