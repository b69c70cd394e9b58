"""The plan and the status of runs, from their folders and the queue; watched, the status refreshes in place."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from benchmark.config.evaluation import EvaluationConfig
from benchmark.config.run import RunConfig
from benchmark.plan.plan import PlannedRun
from benchmark.runs.folder import RunFolder
from benchmark.runs.log import last_lines
from benchmark.status.layout import LONG, Row, grouped, laid_out, name_of, names_of
from benchmark.status.queue import Queue, look
from benchmark.status.standing import is_settled, log_of, with_states

POLL_SECONDS = 5.0
SILENT_MINUTES = 15
"""A run that logs nothing for so long is remarked on."""
ORDER = (
    "failed",
    "unreadable",
    "stopped",
    "blocked",
    "unknown",
    "running",
    "queued",
    "waiting",
    "partial",
    "absent",
)
"""States in the order of a long table, done runs last; a short one keeps the plan's order."""
HEADINGS = ("state", "epoch", "loss", "samples/s", "left", "attempt", "")


@dataclass(frozen=True)
class Pace:
    """How far a run's log says it has come."""

    epoch: int
    """From 1."""
    loss: float | None
    samples_per_second: float | None
    seconds_left: float | None
    is_evaluating: bool
    quiet_seconds: float
    """Since its last line."""


def pace_of(run: PlannedRun) -> Pace | None:
    """Read the end of a run's log; None if it has none yet."""
    if not isinstance(run.config, RunConfig):
        return None
    path, epochs = run.folder.log, run.config.train.epochs
    lines = last_lines(path)
    steps = [line for line in lines if line.get("kind") == "step"]
    if not lines or not (steps or lines[-1].get("kind") == "epoch"):
        return None
    quiet = max(0.0, time.time() - path.stat().st_mtime)
    last = lines[-1]
    is_evaluating = last.get("kind") == "epoch" and last["epoch"] + 1 == epochs
    if not steps:
        return Pace(last["epoch"] + 1, last.get("loss"), None, None, is_evaluating, quiet)
    new, old = steps[-1], steps[0]
    samples, seconds = new["samples_seen"] - old["samples_seen"], new["seconds"] - old["seconds"]
    if seconds <= 0:  # one line: the mean since the start
        samples, seconds = new["samples_seen"], new["seconds"]
    left = new["seconds"] * (1 - new["progress"]) / new["progress"]
    rate = samples / seconds if seconds > 0 else None
    return Pace(new["epoch"] + 1, new["loss"], rate, None if is_evaluating else left, is_evaluating, quiet)


def status_table(
    runs: Sequence[PlannedRun],
    queue: Queue,
    title: str,
    console: Console,
    *,
    show_all: bool = False,
    lines: int | None = None,
) -> Group:
    """All runs; on a terminal those that matter now, in as many ``lines``, and a count of the others."""
    shown = list(runs)
    if len(shown) > LONG:
        shown.sort(key=lambda run: ORDER.index(run.state.name) if run.state.name in ORDER else len(ORDER))
    rows = [_row(group, queue) for group in grouped(shown, console, show_all)]
    laid = laid_out(title, HEADINGS, rows, console, counts_of, lines or _most(console, show_all))
    if not queue.silent:
        return laid
    silent = f"SLURM does not answer ({queue.silent}); what is shown is what the runs wrote"
    return Group(laid, Text(silent, "yellow"))


def _most(console: Console, show_all: bool) -> int | None:
    return LONG if console.is_terminal and not show_all else None


def watch(
    runs: Sequence[PlannedRun],
    console: Console,
    title: Callable[[Sequence[PlannedRun]], str],
    is_active: Callable[[], bool],
) -> None:
    """Show the table until nothing changes by itself or Ctrl-C; off a terminal, print it at each change.

    ``is_active`` says whether a sweep command on this machine still starts runs.
    """
    quiet_polls, before = 0, ""
    height = max(5, console.height - 8)
    with Live(console=console, auto_refresh=False) if console.is_terminal else _Printed(console) as live:
        while True:
            queue = look(runs)
            runs = with_states(runs, queue)
            lines = height if console.is_terminal else None
            table = status_table(runs, queue, title(runs), console, lines=lines)
            now = json.dumps([[run.config.name, run.state.name, run.state.detail] for run in runs]) + queue.silent
            if console.is_terminal or now != before:
                live.update(table, refresh=True)
            before = now
            quiet_polls = quiet_polls + 1 if is_settled(runs) and not is_active() else 0
            if quiet_polls >= 2:  # twice: a record may show late on a network file system
                return
            time.sleep(POLL_SECONDS if quiet_polls == 0 else min(POLL_SECONDS, 1.0))


class _Printed:
    """``Live`` for what is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __enter__(self) -> _Printed:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, table: Group, refresh: bool) -> None:
        self.console.print(table)


def _row(group: Sequence[PlannedRun], queue: Queue) -> Row:
    """A run's row, or that of several: how many are in which state, and the facts of the one with most to do."""
    cells = [_cells(run, queue) for run in group]
    name = name_of([run.config.name for run in group])
    if len(group) == 1:
        return Row(group, name, cells[0])
    at_work = [own for run, own in zip(group, cells, strict=True) if run.state.name == "running"]
    slowest = min(at_work, key=lambda own: int(own[1].plain.partition("/")[0] or 0), default=[Text("")] * 5)
    return Row(group, name, [Text(counts_of(group), _style(group)), *slowest[1:5], Text(""), Text("")])


def _cells(run: PlannedRun, queue: Queue) -> list[Text]:
    state, note = run.state.name, "" if run.state.is_incomplete else run.state.detail
    pace = pace_of(run) if state in ("running", "partial", "stopped", "failed", "queued", "unknown") else None
    cells = ["", "", "", ""]
    if pace is not None and isinstance(run.config, RunConfig):
        is_live = state == "running"
        cells = [
            f"{pace.epoch}/{run.config.train.epochs}",
            "nan" if pace.loss is None else f"{pace.loss:.3f}",
            f"{pace.samples_per_second:,.0f}" if is_live and pace.samples_per_second is not None else "",
            duration(pace.seconds_left) if is_live and pace.seconds_left is not None else "",
        ]
        if is_live:
            note = "evaluating" if pace.is_evaluating else note.removeprefix("starting")
        if is_live and pace.quiet_seconds > 60 * SILENT_MINUTES:
            note += f" no word for {duration(pace.quiet_seconds)}"
    job_id = queue.submitted.get(run.config.name)
    if state == "failed" and "; see " not in note:
        note += f"; see {log_of(run, job_id) or run.folder / 'error.json'}"
    if state in ("running", "queued") and run.config.name in queue.jobs:
        note = f"job {job_id}" + (f": {note.strip()}" if note else "")
    count = _attempts(run.folder)
    texts = [*cells, str(count) if count else "", note.strip()]
    return [Text(run.state.words, _style([run])), *map(Text, texts)]


def _style(group: Sequence[PlannedRun]) -> str:
    """That of the state, where all have the same."""
    return STYLES.get(group[0].state.name, "") if len({run.state.name for run in group}) == 1 else ""


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h`` or ``2.1 days``."""
    for limit, unit, digits in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {digits}"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _attempts(folder: RunFolder) -> int:
    try:
        return folder.attempts.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


STYLES = {
    "done": "green",
    "running": "cyan",
    "queued": "cyan",
    "failed": "red",
    "unreadable": "red",
    "blocked": "red",
    "stopped": "yellow",
    "unknown": "yellow",
}


def counts_of(runs: Sequence[PlannedRun]) -> str:
    """``3 done (2 of other sweeps, 1 incomplete), 1 failed``"""
    names = [run.state.name for run in runs]
    incomplete = sum(run.state.is_incomplete for run in runs)
    others = sum(run.state.name == "done" and bool(run.state.origin) for run in runs)
    parts = [f"{others} of other sweeps"] * bool(others) + [f"{incomplete} incomplete"] * bool(incomplete)
    told = {"done": f" ({', '.join(parts)})" if parts else ""}
    return ", ".join(f"{names.count(name)} {name}{told.get(name, '')}" for name in sorted(set(names)))


def plan_table(runs: Sequence[PlannedRun], title: str, console: Console, show_all: bool = False) -> Group:
    """The plan as people read it; on a terminal its beginning."""
    rows = []
    for group in grouped(runs, console, show_all):
        one = group[0]
        detail = "" if one.state.is_incomplete or one.state.name == "waiting" else one.state.detail
        state = one.state.words + (f": {detail}" if detail else "") if len(group) == 1 else counts_of(group)
        samples = "known with the data" if one.samples is None else f"{one.samples:,}"
        samples = "-" if isinstance(one.config, EvaluationConfig) else samples
        waits = names_of(name for run in group for name in run.config.waits_for)
        cells = [Text(state, _style(group)), *map(Text, (samples, _resources(one), waits))]
        rows.append(Row(group, name_of([run.config.name for run in group]), cells))
    headings = ("state", "samples", "resources", "waits for")
    return laid_out(title, headings, rows, console, counts_of, _most(console, show_all))


def _resources(run: PlannedRun) -> str:
    launch = run.config.launch
    per_node = f"{launch.gpus} GPU" if launch.gpus else f"{launch.ranks_per_node * launch.cpus} CPU"
    nodes = f"{launch.nodes} x " if launch.nodes > 1 else ""
    limit = f"{launch.minutes / 60:.0f} h" if launch.minutes >= 120 else f"{launch.minutes} min"
    return f"{nodes}{per_node}, {limit}"
