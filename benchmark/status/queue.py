"""What SLURM's queue says of a sweep's runs: the job of each. ``sacct`` is not needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.plan.plan import PlannedRun
from benchmark.runs.submission import Submission, is_fresh, job_of, open_ones
from benchmark.slurm.jobs import QueuedJob, ask_squeue, jobs_in

IDS_AT_ONCE = 500


@dataclass(frozen=True)
class Queue:
    """Jobs by the name of their run."""

    jobs: Mapping[str, QueuedJob] = field(default_factory=dict)
    submitted: Mapping[str, str] = field(default_factory=dict)
    """The job every run was last submitted as, by the name of the run."""
    silent: str = ""
    """Why nothing is known of the jobs; "" if SLURM answered."""
    ended: Mapping[str, QueuedJob] = field(default_factory=dict)
    """Jobs that left the queue so recently that squeue still knows them."""
    in_doubt: frozenset[str] = frozenset()
    """Runs handed to sbatch of which no job is known yet."""


def look(runs: Sequence[PlannedRun]) -> Queue:
    """Ask squeue about the jobs of ``runs``, whosoever's they are. A silent controller is no error."""
    submitted = {run.config.name: job_id for run in runs if (job_id := job_of(run.folder))}
    arrays = sorted({job_id.split("_")[0] for job_id in submitted.values()})
    asked = [arrays[start : start + IDS_AT_ONCE] for start in range(0, len(arrays), IDS_AT_ONCE)]
    found: dict[str, QueuedJob] = {}
    for part in asked:
        lines, silent = ask_squeue("-j", ",".join(part))
        if silent:
            doubtful = {name for _, s in _open(runs) for name in s.runs}
            return Queue({}, submitted, silent, in_doubt=frozenset(doubtful))
        found |= jobs_in(lines)
    silent, in_doubt = _find_open(runs, submitted, found)
    known = {name: found[job_id] for name, job_id in submitted.items() if job_id in found}
    jobs = {name: job for name, job in known.items() if not job.has_ended}
    ended = {name: job for name, job in known.items() if job.has_ended}
    return Queue(jobs, submitted, silent, ended, in_doubt)


def _find_open(
    runs: Sequence[PlannedRun], submitted: dict[str, str], found: dict[str, QueuedJob]
) -> tuple[str, frozenset[str]]:
    """Look for the jobs of open submissions by their names; adds what it finds to ``submitted`` and ``found``.

    Returns why SLURM is silent, and the runs whose submission may still come true.
    """
    in_doubt: set[str] = set()
    reason = ""
    for folder, submission in _open(runs):
        lines, silent = ask_squeue("-n", submission.job_name)
        jobs = jobs_in(lines)
        if jobs:
            found |= jobs
            job_id = next(iter(jobs)).split("_")[0]
            submitted |= dict(zip(submission.runs, submission.ids(job_id), strict=True))
        elif silent or is_fresh(folder, submission):
            reason = reason or silent
            in_doubt |= set(submission.runs)
    return reason, frozenset(in_doubt)


def _open(runs: Sequence[PlannedRun]) -> list[tuple[Path, Submission]]:
    folders = sorted({run.folder.parent for run in runs})
    return [(folder, submission) for folder in folders for submission in open_ones(folder)]
