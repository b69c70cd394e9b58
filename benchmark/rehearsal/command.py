"""``python -m benchmark.sweep SWEEP --rehearse``: one job of each shape, in small, where the sweep's would go."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmark.config.evaluation import EvaluationConfig
from benchmark.config.job import JobConfig, load_config
from benchmark.config.run import RunConfig
from benchmark.files import write_texts
from benchmark.launch.cancel import cancel
from benchmark.launch.fit import unfit
from benchmark.launch.slots import Slots
from benchmark.launch.todo import choose
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.plan.shapes import shape_of
from benchmark.rehearsal.derive import Deriver, Pool, key_of
from benchmark.rehearsal.measure import measure
from benchmark.rehearsal.project import FAIL, findings, not_done, project
from benchmark.rehearsal.rounds import bring_to_their_ends, follow
from benchmark.rehearsal.standins import StandIns
from benchmark.rehearsal.table import Shape, show
from benchmark.runs.folder import RunFolder
from benchmark.runs.lease import lease
from benchmark.runs.provenance import now
from benchmark.runs.rehearsals import folder_of, write_rehearsal
from benchmark.runs.state import state_of
from benchmark.status.queue import Queue, look
from benchmark.status.standing import with_states
from benchmark.status.table import counts_of, status_table

RUNS, DATA = "runs", "data"
"""Folders of a rehearsal: of its jobs, and of what stands in for data."""
EXIT_FAILED = 1


class Rehearsal:
    """The rehearsal of the planned runs: jobs in small, under the runs' own names, in a folder of their own."""

    def __init__(self, plan: Sequence[PlannedRun], results: Path, console: Console) -> None:
        plan = [run for run in plan if not isinstance(run.config, EvaluationConfig)]  # runs rehearse it themselves
        self.console = console
        self.folder = folder_of(results, plan[0].config.sweep)
        self.shapes = _shapes(plan)
        # with what they wait for: of another seed, perhaps, than the one that stands for its shape
        chosen = choose(plan, [shape.config.name for shape in self.shapes])
        self.chosen = [run for run in plan if run.config.name in chosen]
        self.deriver = Deriver(StandIns(self.folder / DATA))

    def rehearse(self, cluster: str, slots: Slots, command: str) -> int:
        """Start anew, wait for the end, and judge: 0 if all would get through, else 1.

        Raises ConfigError while an earlier one is at work, and where this machine or SLURM cannot take a job.
        """
        with lease(self.folder / "rehearsal.lock", wait_seconds=5):
            if cluster == "slurm" and (problems := unfit(self.chosen)):
                raise ConfigError("\n".join(problems))
            self._make_room()
            count = f"{len(self.shapes)} of {sum(len(shape.runs) for shape in self.shapes)} runs differ"
            self.console.print(f"rehearsing in {self.folder} ({cluster}): {count}", soft_wrap=True)
            runs = self._write()
            runs = bring_to_their_ends(runs, self.folder / RUNS, cluster, slots, self.console)
            return self._judge(runs, command)

    def show(self, watch: bool, out: Console, command: str) -> int:
        """Where it stands; with ``watch`` wait for its end and judge."""
        runs, queue = self._on_disk()
        if not watch:
            title = f"rehearsal: {len(runs)} jobs, {counts_of(runs)}"
            out.print(status_table(runs, queue, title, out), crop=False)
            return 0
        follow(runs)
        return self._judge(with_states(runs, look(runs)), command)

    def cancel(self, out: Console) -> int:
        """End what it has queued or running."""
        runs, queue = self._on_disk()
        return 0 if cancel(runs, queue, self.folder / RUNS, out) else EXIT_FAILED

    def _make_room(self) -> None:
        """Remove the jobs of the one before. Raises ConfigError while they are at work."""
        left = [path.parent for path in sorted(self.folder.glob(f"{RUNS}/*/config.yaml"))]
        runs = [_planned(load_config(path / "config.yaml"), path, None) for path in left]
        queue = look(runs)
        queued = {*queue.jobs, *queue.in_doubt, *(queue.submitted if queue.silent else ())}
        for run in runs:
            if run.state.name == "running" or run.config.name in queued:
                raise ConfigError(
                    f"{run.config.name} is queued or running in {self.folder}: --rehearse --watch waits for the"
                    " rehearsal under way, --rehearse --cancel ends it"
                )
        shutil.rmtree(self.folder / RUNS, ignore_errors=True)

    def _write(self) -> list[PlannedRun]:
        """Write the jobs' configurations, and that each is to stop itself half way."""
        self.deriver.prepare(self.chosen)
        small, texts = [], {}
        for run in self.chosen:
            config = self.deriver.derive(run.config)
            job = _planned(config, self.folder / RUNS / config.name, self._pool(config, run).samples)
            texts[job.folder.config] = config.to_yaml()
            texts[job.folder.rehearsal] = json.dumps({"stop": True}) + "\n"
            small.append(job)
        write_texts(texts)
        return small

    def _pool(self, config: JobConfig, run: PlannedRun) -> Pool:
        return self.deriver.pools[key_of(run.config.pool)]

    def _on_disk(self) -> tuple[list[PlannedRun], Queue]:
        """Raises ConfigError if this plan has not been rehearsed."""
        folders = {run.config.name: self.folder / RUNS / run.config.name for run in self.chosen}
        missing = [name for name, path in folders.items() if not (path / "config.yaml").exists()]
        if missing:
            raise ConfigError(f"{missing[0]} has not been rehearsed: python -m benchmark.sweep SWEEP --rehearse")
        runs = [_planned(load_config(path / "config.yaml"), path, None) for path in folders.values()]
        queue = look(runs)
        return with_states(runs, queue), queue

    def _judge(self, runs: Sequence[PlannedRun], command: str) -> int:
        """Write ``rehearsal.json`` and print what was found."""
        self.deriver.prepare(self.chosen)
        of_name = {run.config.name: run for run in runs}
        for shape in self.shapes:
            self._fill(shape, of_name[shape.config.name])
        shapes = {shape.key: _told(shape) for shape in self.shapes if shape.measured is not None}
        write_rehearsal(self.folder, {"command": command, "finished": now(), "shapes": shapes})
        show(self.shapes, self.console)
        bad = [shape for shape in self.shapes if any(found.level == FAIL for found in shape.findings)]
        some = f"{len(bad)} of {len(self.shapes)} kinds of jobs would not get through"
        said, style = (some, "red") if bad else ("all kinds of jobs would get through", "green")
        self.console.print(said, style=style, highlight=False)
        return EXIT_FAILED if bad else 0

    def _fill(self, shape: Shape, run: PlannedRun) -> None:
        if run.state.name != "done":
            shape.findings = [not_done(run.state, str(run.folder))]
            return
        config, pool = shape.config, self.deriver.pools[key_of(shape.config.pool)]
        sliced = [self.deriver.slicer.of(choice) for choice in getattr(config, "evaluate", ())]
        shape.measured = measure(run.folder, run.config)
        shape.hours = project(config, pool, shape.measured, sliced)
        shape.findings = list(findings(config, pool, shape.measured, sliced, shape.hours))


def _planned(config: JobConfig, folder: Path, samples: int | None) -> PlannedRun:
    return PlannedRun(config, RunFolder(folder), state_of(RunFolder(folder), config), samples)


def _shapes(plan: Sequence[PlannedRun]) -> list[Shape]:
    found: dict[str, Shape] = {}
    for run in plan:
        key = shape_of(run.config)
        found.setdefault(key, Shape(key, [])).runs.append(run)
    order = [(shape.config.framework, shape.config.pool_label) for shape in found.values()]
    return sorted(found.values(), key=lambda shape: order.index((shape.config.framework, shape.config.pool_label)))


def _told(shape: Shape) -> dict[str, object]:
    """What ``rehearsal.json`` holds of a shape; hours are those of one run."""
    config, measured, hours = shape.config, shape.measured, shape.hours
    assert measured is not None
    return {
        "run": config.name,
        "runs": len(shape.runs),
        "kind": "run" if isinstance(config, RunConfig) else config.method,
        "device": measured.device,
        "device_kind": "gpu" if config.launch.gpus else "cpu",
        "hours": hours.hours,
        "training_hours": hours.training,
        "evaluation_hours": hours.evaluation,
        "share": hours.share,
        "measured": dataclasses.asdict(measured),
        "findings": [[found.level, found.text] for found in shape.findings],
    }
