"""What a rehearsal found, as a table of a line a shape and a line a finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.config.job import JobConfig
from benchmark.config.run import RunConfig
from benchmark.plan.estimate import hours_text, units_of_rank
from benchmark.plan.plan import PlannedRun
from benchmark.rehearsal.measure import Measured
from benchmark.rehearsal.project import FAIL, NOTE, WARN, Finding, Projection, jobs_in_a_row

STYLES = {FAIL: "red", WARN: "yellow", NOTE: ""}
LEGEND = (
    "step s: computing of an optimiser step; data s: loading of its samples, workers together; limit: the longer."
    " cores: loader workers a rank that would keep up/asked for. GB: memory on a node + of a GPU; shm: GB of"
    " /dev/shm; files: open in a process. train h, eval h: of a run; jobs: of its time limit, in a row; in all h:"
    " of all runs."
)


@dataclass
class Shape:
    """Jobs that cost the same, one of which is rehearsed."""

    key: str
    runs: list[PlannedRun]
    measured: Measured | None = None
    hours: Projection = field(default_factory=Projection)
    findings: list[Finding] = field(default_factory=list)

    @property
    def config(self) -> JobConfig:
        return self.runs[0].config

    @property
    def unit_hours(self) -> float | None:
        """Of all runs of the shape, in GPU hours or core hours."""
        if self.hours.hours is None:
            return None
        launch = self.config.launch
        return self.hours.hours * launch.num_ranks * units_of_rank(launch) * len(self.runs)


def show(shapes: Sequence[Shape], console: Console) -> None:
    """The table, what it adds up to, and what was found, each with the name of its run."""
    console.print(_table(shapes))
    console.print(LEGEND, style="dim", highlight=False)
    for line in _sums(shapes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    said: dict[tuple[str, str], list[str]] = {}
    for shape in shapes:
        for found in shape.findings:
            said.setdefault((found.level, found.text), []).append(shape.config.name)
    for (level, text), names in sorted(said.items(), key=lambda item: list(STYLES).index(item[0][0])):
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        console.print(
            f"{level}: {names[0]}{others}: {text}",
            style=STYLES[level],
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _table(shapes: Sequence[Shape]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("job", overflow="fold")
    for heading in ("runs", "step s", "data s", "limit", "cores", "GB", "shm", "files"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("train h", "eval h", "jobs", "in all h"):
        table.add_column(heading, justify="right", no_wrap=True)
    pool = ""
    for shape in shapes:
        if (title := f"{shape.config.framework} on {shape.config.pool_label}") != pool:
            pool = title
            table.add_row(Text(title, style="bold"))
        is_bad = any(found.level == FAIL for found in shape.findings)
        table.add_row(Text(_label(shape.config), style="red" if is_bad else ""), *_cells(shape))
    return table


def _label(config: JobConfig) -> str:
    if not isinstance(config, RunConfig):
        return f"  {config.method}"
    arm = " published" if config.is_published else ""
    return f"  {config.model.name} {config.method}{arm}"


def _cells(shape: Shape) -> list[str]:
    launch, measured = shape.config.launch, shape.measured
    if measured is None:
        return [str(len(shape.runs))]
    cells = [str(len(shape.runs)), *_speed(shape.config, measured)]
    usage = measured.usage
    memory = f"{usage.memory_bytes / 1e9:.1f}" + (f"+{usage.gpu_bytes / 1e9:.0f}" if usage.gpu_bytes else "")
    cells += [memory, f"{usage.shared_bytes / 1e9:.2f}", str(usage.open_files)]
    hours = shape.hours
    cells += ["?" if hours.training is None else hours_text(hours.training)]
    cells += ["" if hours.evaluation is None else hours_text(hours.evaluation)]
    jobs = jobs_in_a_row(launch, hours)
    return [
        *cells,
        "?" if jobs is None else str(jobs),
        "?" if shape.unit_hours is None else hours_text(shape.unit_hours),
    ]


def _speed(config: JobConfig, measured: Measured) -> list[str]:
    if measured.steps is None or not isinstance(config, RunConfig):
        return ["", "", "", ""]
    steps, workers = measured.steps, config.train.num_workers
    data = steps.loading / max(1, workers)
    needed = max(1, round(steps.loading / steps.computing + 0.5))
    return [
        f"{steps.computing:.3f}",
        f"{data:.3f}",
        "data" if data > steps.computing else "step",
        f"{needed}/{workers}",
    ]


def _sums(shapes: Sequence[Shape]) -> Iterator[str]:
    for unit, of_unit in (("GPU", True), ("core", False)):
        mine = [shape for shape in shapes if bool(shape.config.launch.gpus) == of_unit]
        known = [shape.unit_hours for shape in mine if shape.unit_hours is not None]
        if not mine:
            continue
        left = sum(len(shape.runs) for shape in mine if shape.unit_hours is None)
        told = sum(len(shape.runs) for shape in mine) - left
        unknown = f"; {left} runs are not in it" if left else ""
        yield f"in all about {hours_text(sum(known))} {unit} hours for {told} runs{unknown}"
