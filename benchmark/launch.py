"""Starting jobs: in this process, on this machine or on SLURM. submitit starts processes; disk is the truth."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import submitit
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmark import job
from benchmark.config import LaunchConfig
from benchmark.files import write_text
from benchmark.log import last_line
from benchmark.plan import PlannedRun
from benchmark.record import LOG_FILE
from benchmark.state import State, state_of

SUBMITTED_FILE = "job/submitted.json"
LOCAL_TIMEOUT_MINUTES = 60 * 24 * 30
POLL_SECONDS = 0.5
logger = logging.getLogger(__name__)


def run_inline(runs: Sequence[PlannedRun], console: Console, fail_fast: bool) -> list[State]:
    """One after the other in this process; a failed run stops nothing else unless ``fail_fast``."""
    states = []
    with _bars(console) as bars:
        total = bars.add_task("all runs", total=len(runs), text="")
        for run in runs:
            bar = bars.add_task(run.config.name, total=1.0, text="starting")
            try:
                job.run(run.folder, lambda share, text, bar=bar: bars.update(bar, completed=share, text=text))  # type: ignore[misc]
            except Exception:
                logger.debug("%s failed", run.config.name, exc_info=True)  # its folder holds the traceback
            states.append(state_of(run.folder, run.config))
            bars.update(bar, text=states[-1].name)
            bars.advance(total)
            if fail_fast and states[-1].name == "failed":
                break
    return states


@dataclass
class LocalQueue:
    """Runs as processes of this machine, ``limit`` at a time."""

    runs: Sequence[PlannedRun]
    limit: int
    fail_fast: bool
    console: Console
    active: dict[str, tuple[PlannedRun, Any, TaskID]] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)

    def work(self) -> list[State]:
        """Run all; return their states in the end. An interrupt ends the processes and loses nothing."""
        waiting = list(self.runs)
        with _bars(self.console) as bars:
            total = bars.add_task("all runs", total=len(waiting), text="")
            try:
                while waiting or self.active:
                    while waiting and len(self.active) < self.limit:
                        self._start(waiting.pop(0), bars)
                    time.sleep(POLL_SECONDS)
                    for name in [name for name, (_, process, _) in self.active.items() if process.done()]:
                        self._finish(name, bars)
                        bars.advance(total)
                    self._show(bars)
                    if self.fail_fast and any(state.name == "failed" for state in self.states):
                        waiting.clear()
                        self.cancel()
            except BaseException:
                self.cancel()
                raise
        return self.states

    def cancel(self) -> None:
        for _, process, _ in self.active.values():
            process.cancel(check=False)

    def _start(self, run: PlannedRun, bars: Progress) -> None:
        launch = run.config.launch
        executor = submitit.LocalExecutor(folder=run.folder / "job")
        executor.update_parameters(
            timeout_min=LOCAL_TIMEOUT_MINUTES,  # launch.minutes is the cluster's limit, not this machine's
            tasks_per_node=launch.ranks_per_node,
            gpus_per_node=launch.gpus,
            stderr_to_stdout=True,
        )
        with _environment(OMP_NUM_THREADS=str(launch.cpus)), _errors_to(run.folder / "job" / "starter.log"):
            process = executor.submit(job.Job(str(run.folder.resolve())))
        self.active[run.config.name] = (run, process, bars.add_task(run.config.name, total=1.0, text="starting"))

    def _finish(self, name: str, bars: Progress) -> None:
        run, process, bar = self.active.pop(name)
        state = state_of(run.folder, run.config)
        if state.name in ("absent", "partial"):
            state = State("failed", f"the process ended without a record; see {process.paths.stdout}")
        self.states.append(state)
        bars.update(bar, completed=1.0, text=state.name)

    def _show(self, bars: Progress) -> None:
        for run, _, bar in self.active.values():
            line = last_line(run.folder / LOG_FILE)
            if line and line.get("kind") == "step":
                bars.update(
                    bar, completed=line["progress"], text=f"epoch {line['epoch'] + 1}, loss {line['loss']:.3f}"
                )
            elif line and line.get("epoch", -1) + 1 == run.config.train.epochs:
                bars.update(bar, completed=1.0, text="evaluating")


def local_limit(runs: Sequence[PlannedRun]) -> int:
    """How many runs fit this machine's cores side by side; with GPUs, one at a time."""
    if any(run.config.launch.gpus for run in runs):
        return 1
    widest = max((run.config.launch.cpus * run.config.launch.num_ranks for run in runs), default=1)
    return max(1, len(os.sched_getaffinity(0)) // widest)


def submit_slurm(runs: Sequence[PlannedRun], folder: Path) -> list[str]:
    """Submit runs of one shape as one array each; each run's job id is on disk before the next submission."""
    shapes: dict[str, list[PlannedRun]] = defaultdict(list)
    for run in runs:
        shapes[json.dumps(vars(run.config.launch), sort_keys=True)].append(run)
    ids = []
    for group in shapes.values():
        executor = submitit.SlurmExecutor(folder=folder / "job")
        executor.update_parameters(**slurm_parameters(group[0].config.launch, group[0].config.sweep))
        with executor.batch():
            jobs = [executor.submit(job.Job(str(run.folder.resolve()))) for run in group]
        for run, submitted in zip(group, jobs, strict=True):
            write_text(run.folder / SUBMITTED_FILE, json.dumps({"job_id": submitted.job_id}) + "\n")
            ids.append(submitted.job_id)
    return ids


def slurm_parameters(launch: LaunchConfig, name: str) -> dict[str, Any]:
    """What ``SlurmExecutor.update_parameters`` takes; options that were not set are left to the cluster."""
    asked = {
        "partition": launch.partition,
        "account": launch.account,
        "qos": launch.qos,
        "constraint": launch.constraint,
        "mem": f"{launch.memory_gb}GB" if launch.memory_gb else None,
        "gpus_per_node": launch.gpus or None,
        "setup": [f"export OMP_NUM_THREADS={launch.cpus}", *launch.setup],
        "additional_parameters": launch.sbatch or None,
    }
    return {
        "job_name": name,
        "time": launch.minutes,
        "nodes": launch.nodes,
        "ntasks_per_node": launch.ranks_per_node,
        "cpus_per_task": launch.cpus,
        "stderr_to_stdout": True,
        **{key: value for key, value in asked.items() if value is not None},
    }


def queue_states(runs: Sequence[PlannedRun]) -> dict[str, str]:
    """``queued`` or ``running``, by run name, for submitted runs that squeue still lists; {} without SLURM."""
    ids = {}
    for run in runs:
        try:
            ids[json.loads((run.folder / SUBMITTED_FILE).read_text())["job_id"]] = run.config.name
        except (OSError, ValueError, KeyError, TypeError):
            continue  # never submitted
    if not ids:
        return {}
    try:
        done = subprocess.run(["squeue", "-h", "-r", "-o", "%i %T"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    states = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line)
    return {name: "running" if states[i] == "RUNNING" else "queued" for i, name in ids.items() if i in states}


def _bars(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
    return Progress(*columns, TimeElapsedColumn(), console=console)


@contextmanager
def _errors_to(path: Path) -> Iterator[None]:
    """Processes started within write their errors to a file: an interrupt must not flood the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    terminal = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


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
