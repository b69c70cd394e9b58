"""Ctrl-C, TERM and HUP to the sweep command: runs on this machine save first; a second Ctrl-C does not wait."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from patience import patience
from test_resume import story
from test_signals import at_step, checkpoints, in_child
from tiny import clip_grid
from torch.utils.tensorboard import SummaryWriter

from benchmark import sweep
from benchmark.evaluate import run as evaluation
from benchmark.plan.plan import PlannedRun
from benchmark.runs import log
from benchmark.runs.attempts import attempts_of
from benchmark.runs.record import read_record
from benchmark.runs.state import state_of

pytestmark = pytest.mark.slow

Plan = Callable[..., list[PlannedRun]]
TASKS = [{"knn": {"dataset": "digits"}}, {"retrieval": {"dataset": "shapes"}}]
SHORT = clip_grid(train={"epochs": 2, "num_workers": 1}, evaluate=TASKS)
LONG = {"epochs": 4000, "num_workers": 1}


def command(run: PlannedRun, cluster: str) -> list[str]:
    results = run.folder.parent.parent
    return [str(results.parent / "tiny.yaml"), "--results", str(results), "--cluster", cluster]


def inline(run: PlannedRun, arm: Callable[[], Any]) -> int:
    """Exit code of the command, a process group that ``arm`` has prepared to interrupt itself."""

    def work() -> None:
        os.setpgid(0, 0)
        arm()
        sys.exit(sweep.main(command(run, "inline")))

    return in_child(work)


def interrupt(number: int = signal.SIGINT) -> None:
    """As a terminal does: all processes in its foreground."""
    os.killpg(0, number)


def is_as_one_that_nothing_stopped(run: PlannedRun, planned: Plan) -> bool:
    """Whether the same command brings a run to the same end, its weights too."""
    (whole,) = planned(SHORT, results="whole")
    stories = []
    for one in (run, whole):
        assert sweep.main(command(one, "inline")) == 0
        stories.append((story(one), read_record(one.folder / "record.json")["weights"]))
    return stories[0] == stories[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_saves_after_the_step_and_the_same_command_ends_as_if_there_had_been_none(
    planned: Plan, number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    (run,) = planned(SHORT)
    assert inline(run, lambda: at_step(10, lambda: interrupt(number))) == 130
    assert checkpoints(run) == ["step-000000011"]
    assert state_of(run.folder, run.config).name == "partial"
    said = capfd.readouterr().err
    assert "saved at step 11\n" in said
    assert "stopped; the same command goes on from here\n" in said
    assert is_as_one_that_nothing_stopped(run, planned)
    assert [a.steps_start for a in attempts_of(run.folder)] == [0, 11]


def test_an_interrupt_during_the_evaluation_stops_before_its_next_task(planned: Plan) -> None:
    (run,) = planned(SHORT)

    def arm() -> None:
        make, calls = evaluation.make_task, iter(range(9))

        def interrupting(*arguments: Any) -> Any:
            if not run.folder.final_weights.exists():  # a look ahead, before the training
                return make(*arguments)
            assert next(calls) == 0, "another task began"
            interrupt()
            return make(*arguments)

        evaluation.make_task = interrupting

    assert inline(run, arm) == 130
    assert checkpoints(run) == ["step-000000016"]
    assert state_of(run.folder, run.config).name == "partial"
    assert is_as_one_that_nothing_stopped(run, planned)


def test_a_second_ctrl_c_ends_at_once_though_tensorboards_writer_is_stuck(
    planned: Plan, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "CLOSE_SECONDS", 0.1)
    (run,) = planned(SHORT)

    def arm() -> None:
        SummaryWriter.close = lambda self: threading.Event().wait()
        at_step(10, lambda: (interrupt(), interrupt()))

    assert inline(run, arm) == 130
    assert checkpoints(run) == []
    assert "ended at once; the same command goes on" in capfd.readouterr().err
    assert state_of(run.folder, run.config).name == "absent"
    assert is_as_one_that_nothing_stopped(run, planned)


def test_the_terminal_may_close_while_a_run_trains(planned: Plan) -> None:
    (run,) = planned(clip_grid(train=LONG))

    def work() -> None:
        child, terminal = pty.fork()
        if child == 0:
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115  (pytest has its own in place)
            sys.exit(sweep.main(command(run, "inline")))
        shown = b""
        while b"loss" not in shown:
            shown += os.read(terminal, 4096)
        os.close(terminal)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    assert in_child(work) == 130
    (attempt,) = attempts_of(run.folder)
    assert checkpoints(run) == [f"step-{attempt.steps_end:09}"]
    assert state_of(run.folder, run.config).name == "partial"


class Local:
    """The command at work on its runs side by side, in a process group of its own; seen to train each of them."""

    def __init__(self, runs: list[PlannedRun], folder: Path) -> None:
        self.said = folder / "said"
        with self.said.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmark.sweep", *command(runs[0], "local"), "--jobs", "2"],
                stderr=file,
                start_new_session=True,
            )
        before = [len(checkpoints(run)) for run in runs]
        for run, logged in zip(runs, [self.logged(run) for run in runs], strict=True):
            self.wait(lambda run=run, logged=logged: self.logged(run) not in (0, logged))
        assert [len(checkpoints(run)) for run in runs] == before  # it is not time for one

    def logged(self, run: PlannedRun) -> int:
        path = run.folder / "log.jsonl"
        return path.stat().st_size if path.exists() else 0

    def wait(self, is_so: Callable[[], Any]) -> None:
        end = time.monotonic() + patience(60)
        while not is_so():
            assert time.monotonic() < end
            assert self.process.poll() is None
            time.sleep(0.05)

    def ends(self) -> bool:
        """Whether the command ends as interrupted, and leaves no process behind."""
        end = time.monotonic() + patience(20)
        code = self.process.wait(timeout=patience(20))
        with suppress(ProcessLookupError):
            while time.monotonic() < end:
                os.killpg(self.process.pid, 0)
                time.sleep(0.05)
            return False
        return code == 130

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def test_runs_side_by_side_save_at_ctrl_c_in_the_terminal_and_at_term_to_the_command_alone(
    planned: Plan, tmp_path: Path
) -> None:
    runs = planned(clip_grid(seed=[0, 1], train=LONG))
    for attempt, send in enumerate((os.killpg, os.kill)):
        with Local(runs, tmp_path) as local:
            send(local.process.pid, signal.SIGTERM if attempt else signal.SIGINT)
            assert local.ends()
            said = local.said.read_text()
        assert "a second Ctrl-C ends it at once" in said
        assert "stopped; the same command goes on from here" in said
        for run in runs:
            assert state_of(run.folder, run.config).name == "partial"
            last = attempts_of(run.folder)[attempt]
            assert last.steps_end is not None
            assert last.steps_end > last.steps_start
            assert f"{run.config.name}: saved at step {last.steps_end}\n" in said
    for run in runs:
        first, second = attempts_of(run.folder)
        assert first.steps_end == second.steps_start


def test_a_second_ctrl_c_ends_ranks_that_do_not_come_to_an_end_and_their_workers(
    planned: Plan, tmp_path: Path
) -> None:
    runs = planned(clip_grid(train=LONG, launch={"ranks": 2}))
    with Local(runs, tmp_path) as local:
        os.kill(json.loads((runs[0].folder / "job" / "started.json").read_text())["pid"], signal.SIGSTOP)
        os.killpg(local.process.pid, signal.SIGINT)
        local.wait(lambda: "a second Ctrl-C" in local.said.read_text())
        os.killpg(local.process.pid, signal.SIGINT)
        assert local.ends()
        assert "ended at once; the same command goes on" in local.said.read_text()
    assert state_of(runs[0].folder, runs[0].config).name == "absent"
