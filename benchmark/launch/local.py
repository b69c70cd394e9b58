"""Starting jobs: in this process, on this machine or on SLURM. submitit starts processes; disk is the truth."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import submitit
from rich.console import Console

from benchmark import signals
from benchmark.config.evaluation import EvaluationConfig
from benchmark.config.run import RunConfig
from benchmark.files import absolute
from benchmark.job.local_task import Job
from benchmark.launch.shown import Shown
from benchmark.launch.slots import Slots
from benchmark.plan.plan import PlannedRun
from benchmark.runs.attempts import attempts_of, steps_of
from benchmark.runs.folder import RunFolder
from benchmark.runs.lease import is_held
from benchmark.runs.log import last_line
from benchmark.runs.state import State, has_record, state_of

LOCAL_TIMEOUT_MINUTES = 60 * 24 * 30
POLL_SECONDS = 0.5
logger = logging.getLogger(__name__)


def run_inline(runs: Sequence[PlannedRun], console: Console, fail_fast: bool) -> list[State]:
    """One after the other in this process; a failed run stops nothing else unless ``fail_fast``.

    Raises signals.Stopped, with the run saved, if a signal asked for it.
    """
    from benchmark.job import process  # loads all that trains

    states = []
    with Shown(console, [run.config.name for run in runs]) as shown:
        for run in runs:
            shown.start(name := run.config.name)
            if hindrance := hindrance_of(run):
                shown.end(name, hindrance)
                continue
            try:
                process.run(run.folder, partial(shown.update, name))
            except signals.Stopped:
                console.print(_saved(run), markup=False, soft_wrap=True)
                raise
            except Exception:
                logger.debug("%s failed", run.config.name, exc_info=True)  # its folder holds the traceback
            states.append(state_of(run.folder, run.config))
            shown.end(name, states[-1].name)
            if fail_fast and states[-1].name == "failed":
                break
            signals.stop_if_asked()  # after the run had looked for the last time
    return states


@dataclass
class LocalQueue:
    """Runs as processes of this machine, as many at a time as there is room for, in order."""

    runs: Sequence[PlannedRun]
    slots: Slots
    fail_fast: bool
    console: Console
    active: dict[str, tuple[PlannedRun, Any]] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)
    is_ending: bool = False

    def work(self) -> list[State]:
        """Run all; return their states in the end.

        Raises signals.Stopped, with every run saved, if a signal asked for it. A KeyboardInterrupt ends all
        processes at once.
        """
        waiting = list(self.runs)
        with Shown(self.console, [run.config.name for run in waiting]) as shown:
            try:
                while waiting or self.active:
                    for run in [run for run in waiting if not hindrance_of(run)]:
                        gpus = self.slots.take(run)
                        if gpus is None:  # in order: no small run overtakes a large one for ever
                            break
                        waiting.remove(run)
                        self._start(run, gpus, shown)
                    if not self.active and all(hindrance_of(run) for run in waiting):
                        break  # what is left waits for runs that ended without a record
                    time.sleep(POLL_SECONDS)
                    for name in [name for name, (_, process) in self.active.items() if process.done()]:
                        self._finish(name, shown)
                    self._show(shown)
                    has_failed = self.fail_fast and any(state.name == "failed" for state in self.states)
                    if (signals.asked() or has_failed) and not self.is_ending:
                        waiting.clear()
                        self._end()
            except BaseException:
                for _, process in self.active.values():
                    _kill(int(process.job_id))
                raise
        signals.stop_if_asked()
        return self.states

    def _end(self) -> None:
        """Ask what runs to save and end. What has not begun, or is over, has nothing to save, and may not hear."""
        self.is_ending = True
        for run, process in self.active.values():
            controller = int(process.job_id)
            if is_held(run.folder.lease):  # by its first rank, and then all of its ranks listen
                os.kill(controller, signal.SIGTERM)  # which hands it on to the ranks
            else:
                _kill(controller)

    def _start(self, run: PlannedRun, gpus: Sequence[str], shown: Shown) -> None:
        launch = run.config.launch
        executor = submitit.LocalExecutor(folder=run.folder.job)
        executor.update_parameters(
            timeout_min=LOCAL_TIMEOUT_MINUTES,  # launch.minutes is the cluster's limit, not this machine's
            tasks_per_node=launch.ranks_per_node,
            gpus_per_node=launch.gpus,
            stderr_to_stdout=True,
        )
        executor.parameters["visible_gpus"] = tuple(gpus)  # submitit checks for numbers; CUDA also takes UUIDs
        shown.start(run.config.name)
        environment = _environment(OMP_NUM_THREADS=str(launch.cpus))
        with environment, _errors_to(run.folder.job / "starter.log"), _apart_from_the_terminal():
            process = executor.submit(Job(str(absolute(run.folder))))
            self.active[run.config.name] = (run, process)

    def _finish(self, name: str, shown: Shown) -> None:
        run, process = self.active.pop(name)
        self.slots.free(name)
        state = state_of(run.folder, run.config)
        attempts = attempts_of(run.folder)
        was_stopped = self.is_ending or bool(attempts and attempts[-1].was_stopped)
        if state.name in ("absent", "partial") and was_stopped:
            self.console.print(_saved(run), markup=False, soft_wrap=True)
        elif state.name in ("absent", "partial"):
            state = State("failed", f"the process ended without a record; see {process.paths.stdout}")
        self.states.append(state)
        shown.end(name, state.name)

    def _show(self, shown: Shown) -> None:
        for name, (run, _) in self.active.items():
            if not isinstance(run.config, RunConfig):
                continue
            line = last_line(run.folder.log) or {}
            if line.get("kind") == "step":
                shown.update(name, line["progress"], f"epoch {line['epoch'] + 1}, loss {line['loss']:.3f}")
            elif line.get("epoch", -1) + 1 == run.config.train.epochs:
                shown.update(name, 1.0, "evaluating")
        shown.tick()


def hindrance_of(run: PlannedRun) -> str:
    """Why a run cannot start now: those it waits for that have no record yet; "" if it can."""
    missing = [name for name in run.config.waits_for if not has_record(RunFolder(run.folder.parent / name))]
    return f"waits for {', '.join(missing)}" if missing else ""


def _saved(run: PlannedRun) -> str:
    """What a run that was stopped goes on from."""
    if isinstance(run.config, EvaluationConfig):
        return f"{run.config.name}: goes on from what it has saved"
    if isinstance(run.config, RunConfig) and has_record(run.folder):
        return f"{run.config.name}: trained; its evaluation goes on from what it has saved"
    count, unit = steps_of(run.folder), "step" if isinstance(run.config, RunConfig) else "chunk"
    return f"{run.config.name}: {f'saved at {unit} {count}' if count else 'nothing to save yet'}"


def _kill(pid: int) -> None:
    """End a process and all that came from it, now."""
    children: list[str] = []
    with suppress(OSError):  # it is gone
        os.kill(pid, signal.SIGSTOP)  # from here on it starts nothing more
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += (thread / "children").read_text().split()
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)
    for child in children:
        _kill(int(child))


@contextmanager
def _errors_to(path: Path) -> Iterator[None]:
    """Processes started within write their errors to a file: they must not flood the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    terminal = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


@contextmanager
def _apart_from_the_terminal() -> Iterator[None]:
    """Processes started within, and theirs, hear of Ctrl-C and a closed terminal from us alone."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _environment:
    """Variables set for the processes started within."""

    def __init__(self, **variables: str) -> None:
        self.variables = variables

    def __enter__(self) -> None:
        self.before = {key: os.environ.get(key) for key in self.variables}
        os.environ.update(self.variables)

    def __exit__(self, *_: object) -> None:
        for key, value in self.before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
