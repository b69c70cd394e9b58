"""What SLURM's queue says of a sweep's runs: state, reason and owner of each job. ``sacct`` is not needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from benchmark.plan import PlannedRun
from benchmark.submissions import SUBMITTED_FILE, Submission, ask_squeue, is_fresh, open_ones

IDS_AT_ONCE = 500

TO_DO = {
    "DependencyNeverSatisfied": "what it waits for failed: --cancel, then the same command with --retry",
    "JobHeldUser": "held: scontrol release {id}",
    "JobHeldAdmin": "held by an administrator: ask them, or --cancel",
    "requeued in held state": "held after a failed start: scontrol release {id}",
    "requeued held": "held after a failed start: scontrol release {id}",
    "PartitionTimeLimit": "asks for more time than its partition gives: lower launch.minutes",
    "PartitionNodeLimit": "asks for more nodes than its partition has: lower launch.nodes",
    "BadConstraints": "no node offers launch.constraint",
    "InvalidAccount": "launch.account may not be used here",
    "InvalidQOS": "launch.qos may not be used here",
    "ReqNodeNotAvail": "nodes are down or reserved: sinfo -R",
    "AccountNotAllowed": "launch.account may not use this partition",
}
"""What to do about a job that will not start by itself, by what squeue's reason holds."""
ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
)
"""States of a job that has left the queue; squeue knows it for some minutes more (MinJobAge)."""


@dataclass(frozen=True)
class QueuedJob:
    """A line of squeue."""

    job_id: str
    state: str
    owner: int
    """The user's number."""
    reason: str
    end: str = ""
    """When it ended or has to, in local time; "" or ``N/A`` if that is not known."""

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def seconds_since_end(self) -> float:
        """Infinite if it is not known."""
        try:
            return (datetime.now() - datetime.fromisoformat(self.end)).total_seconds()
        except ValueError:
            return float("inf")

    @property
    def is_running(self) -> bool:
        return self.state in ("RUNNING", "COMPLETING", "CONFIGURING", "STAGE_OUT", "SUSPENDED", "STOPPED")

    @property
    def hint(self) -> str:
        """Why it does not run yet, and what to do if it never would."""
        for words, hint in TO_DO.items():
            if words.lower() in self.reason.lower():
                return f"{self.reason}: {hint.format(id=self.job_id)}"
        return "" if self.reason in ("None", "(null)") else self.reason


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
        found |= _jobs(lines)
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
        jobs = _jobs(lines)
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


def _jobs(lines: Sequence[str]) -> dict[str, QueuedJob]:
    jobs = {}
    for line in lines:
        job_id, state, owner, reason, end = [*line.split("|"), "", "", "", ""][:5]
        jobs[job_id] = QueuedJob(job_id, state, int(owner or -1), reason.strip(), end)
    return jobs


def job_of(folder: Path) -> str | None:
    """The job a run was last submitted as; None if it never was."""
    try:
        return str(json.loads((folder / SUBMITTED_FILE).read_text())["job_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
