"""Submitting runs to SLURM through submitit. What a run has done, disk tells; what is queued, ``queued``."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit

from benchmark import job
from benchmark.config import LaunchConfig
from benchmark.files import write_text
from benchmark.plan import PlannedRun
from benchmark.queued import SUBMITTED_FILE, job_of
from benchmark.state import has_record


def submit_slurm(runs: Sequence[PlannedRun], folder: Path) -> list[str]:
    """Submit runs of one shape that wait for the same runs as one array each, those that wait after the others.

    Each run's job id is on disk before the next submission.
    """
    ids = []
    waiting = list(runs)
    while waiting:
        ahead = {run.config.name for run in waiting}
        ready = [run for run in waiting if ahead.isdisjoint(run.config.waits_for)]
        assert ready, "a plan has no circles"
        waiting = [run for run in waiting if run not in ready]
        shapes: dict[tuple[str, str], list[PlannedRun]] = defaultdict(list)
        for run in ready:
            shapes[json.dumps(vars(run.config.launch), sort_keys=True), _dependency(run)].append(run)
        for (_, dependency), group in shapes.items():
            ids += _submit_array(group, folder, dependency)
    return ids


def _dependency(run: PlannedRun) -> str:
    """sbatch's ``dependency``: after the runs it waits for have ended well; "" if none of them is left."""
    missing = [name for name in run.config.waits_for if not has_record(run.folder.parent / name)]
    jobs = [job_id for name in missing if (job_id := job_of(run.folder.parent / name))]
    return f"afterok:{':'.join(jobs)}" if jobs else ""


def _submit_array(group: Sequence[PlannedRun], folder: Path, dependency: str) -> list[str]:
    executor = submitit.SlurmExecutor(folder=folder / "job")
    parameters = slurm_parameters(group[0].config.launch, group[0].config.sweep)
    if dependency:  # a run that waits for one that failed leaves the queue instead of waiting for ever
        ours = {"dependency": dependency, "kill-on-invalid-dep": "yes"}
        parameters["additional_parameters"] = {**parameters.get("additional_parameters", {}), **ours}
    executor.update_parameters(**parameters)
    with executor.batch():
        jobs = [executor.submit(job.Job(str(run.folder.resolve()))) for run in group]
    for run, submitted in zip(group, jobs, strict=True):
        write_text(run.folder / SUBMITTED_FILE, json.dumps({"job_id": submitted.job_id}) + "\n")
    return [submitted.job_id for submitted in jobs]


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
        "srun_args": launch.srun_words,
    }
    return {
        "job_name": name,
        "time": launch.minutes,
        "signal_delay_s": launch.warning_seconds,
        "nodes": launch.nodes,
        "ntasks_per_node": launch.ranks_per_node,
        "cpus_per_task": launch.cpus,
        "stderr_to_stdout": True,
        **{key: value for key, value in asked.items() if value is not None},
    }
