"""Leases on file systems that refuse locks, or where they do nothing: a claim, a living process, a heartbeat."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from patience import patience
from tiny import clip_grid

from benchmark import files, sweep
from benchmark.files import try_lock
from benchmark.runs import lease
from benchmark.runs.lease import HeldError, holder_of, is_held

ROUNDS, PROCESSES = 4, 5


@pytest.fixture(
    params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 0], ids=lambda n: errno.errorcode.get(n, "silent")
)
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """flock refuses, or says yes to everybody."""

    def flock(_descriptor: int, _kind: int) -> None:
        if request.param:
            raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(files.fcntl, "flock", flock)


class Child:
    """A process of some machine that takes a lease when told, says whether it has it, and keeps it."""

    def __init__(self, path: Path, host: str) -> None:
        start, self.start = os.pipe()
        self.had, had = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.start)
            socket.gethostname = lambda: host
            os.read(start, 1)
            try:
                with lease.lease(path, wait_seconds=0.0):
                    os.write(had, b"y")
                    os.read(start, 1)
            except HeldError:
                os.write(had, b"n")
            os._exit(0)
        os.close(start)
        os.close(had)

    def tell(self) -> None:
        os.write(self.start, b".")

    def has_it(self) -> bool:
        return os.read(self.had, 1) == b"y"

    def end(self, by: int = 0) -> None:
        if by:
            os.kill(self.pid, by)
        os.close(self.start)
        os.waitpid(self.pid, 0)
        os.close(self.had)


@pytest.fixture
def start() -> Iterator[Callable[[Path, str], Child]]:
    started: list[Child] = []

    def begin(path: Path, host: str) -> Child:
        started.append(Child(path, host))
        return started[-1]

    yield begin
    for child in started:
        try:
            child.end(signal.SIGKILL)
        except OSError:
            continue  # it has been ended


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("hosts", ["one host", "several hosts"])
def test_of_processes_that_want_a_lease_at_once_one_has_it(
    hosts: str, tmp_path: Path, start: Callable[[Path, str], Child]
) -> None:
    for turn in range(ROUNDS):
        path = tmp_path / f"{turn}.lock"
        children = [start(path, "n" if hosts == "one host" else f"n{i}") for i in range(PROCESSES)]
        for child in children:
            child.tell()
        count = [child.has_it() for child in children].count(True)
        assert count <= 1  # none where all met in one moment
        children.append(start(path, "late"))
        children[-1].tell()
        assert children[-1].has_it() == (count == 0)
        for child in children:
            child.end()


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("host", [socket.gethostname(), "elsewhere"])
def test_a_lease_is_held_by_a_living_process_and_free_after_it(
    host: str, tmp_path: Path, start: Callable[[Path, str], Child]
) -> None:
    path = tmp_path / "run.lock"
    child = start(path, host)
    child.tell()
    assert child.has_it()
    assert is_held(path)
    holder = holder_of(path)
    assert holder is not None
    assert (holder["host"], holder["pid"]) == (host, child.pid)
    with pytest.raises(HeldError, match="is being worked on by"), lease.lease(path, wait_seconds=0.0):
        pass
    child.end()
    assert not is_held(path)
    with lease.lease(path, wait_seconds=0.0):
        assert is_held(path)


@pytest.mark.usefixtures("no_locks")
def test_what_a_killed_process_held_is_free_at_once_on_its_machine_and_elsewhere_when_its_heartbeat_is_old(
    tmp_path: Path, start: Callable[[Path, str], Child]
) -> None:
    for host, is_free in ((socket.gethostname(), True), ("elsewhere", False)):
        path = tmp_path / f"{host}.lock"
        child = start(path, host)
        child.tell()
        assert child.has_it()
        child.end(signal.SIGKILL)
        assert is_held(path) != is_free
        old = time.time() - lease.STALE_SECONDS - 60
        os.utime(path, (old, old))
        assert not is_held(path)
        with lease.lease(path, wait_seconds=0.0):
            pass


@pytest.mark.usefixtures("no_locks")
def test_a_claim_of_a_process_that_died_is_passed_over_when_it_is_old(tmp_path: Path) -> None:
    path, claim = tmp_path / "run.lock", tmp_path / "run.lock.claim"
    claim.touch()
    with pytest.raises(HeldError), lease.lease(path, wait_seconds=0.0):
        pass
    os.utime(claim, (0, 0))
    with lease.lease(path, wait_seconds=patience(5)):
        assert not claim.exists()


@pytest.mark.usefixtures("no_locks")
def test_a_sweep_runs_where_there_are_no_locks(write_sweep: Callable[..., Path]) -> None:
    path = write_sweep(clip_grid(train={"epochs": 1}))
    assert sweep.main([str(path), "--results", str(path.parent / "results"), "--cluster", "inline"]) == 0


def test_a_lock_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "run.lock").mkdir()
    said = r"run.lock, which says who works there, cannot be opened \(Is a directory\)"
    with pytest.raises(HeldError, match=said), lease.lease(tmp_path / "run.lock"):
        pass


def test_other_errors_of_locks_are_not_taken_for_their_absence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def flock(_descriptor: int, _kind: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with (tmp_path / "x").open("w") as file, pytest.raises(OSError, match="Input/output"):
        try_lock(file.fileno())


def test_files_are_for_a_group_where_the_umask_is(tmp_path: Path) -> None:
    assert files.SHARED & 0o644 == 0o644
    files.write_text(tmp_path / "x", "")
    assert (tmp_path / "x").stat().st_mode & 0o777 == files.SHARED
