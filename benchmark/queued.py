"""What SLURM's queue says of a sweep's runs: state, reason and owner of each job. ``sacct`` is not needed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.plan import PlannedRun

SUBMITTED_FILE = "job/submitted.json"
"""In a run's folder: the job it was last submitted as."""
SECONDS = 30.0
"""How long squeue may take."""
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


@dataclass(frozen=True)
class QueuedJob:
    """A line of squeue."""

    job_id: str
    state: str
    owner: int
    """The user's number."""
    reason: str

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


def look(runs: Sequence[PlannedRun]) -> Queue:
    """Ask squeue about the jobs of ``runs``, whosoever's they are. A silent controller is no error."""
    submitted = {run.config.name: job_id for run in runs if (job_id := job_of(run.folder))}
    arrays = sorted({job_id.split("_")[0] for job_id in submitted.values()})
    found: dict[str, QueuedJob] = {}
    for start in range(0, len(arrays), IDS_AT_ONCE):
        lines, silent = _ask(arrays[start : start + IDS_AT_ONCE])
        if silent:
            return Queue({}, submitted, silent)
        for line in lines:
            job_id, state, owner, reason = [*line.split("|", 3), "", "", ""][:4]
            found[job_id] = QueuedJob(job_id, state, int(owner or -1), reason.strip())
    jobs = {name: found[job_id] for name, job_id in submitted.items() if job_id in found}
    return Queue(jobs, submitted)


def job_of(folder: Path) -> str | None:
    """The job a run was last submitted as; None if it never was."""
    try:
        return str(json.loads((folder / SUBMITTED_FILE).read_text())["job_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _ask(job_ids: Sequence[str]) -> tuple[list[str], str]:
    """squeue's lines, or why there are none."""
    command = ["squeue", "-h", "-r", "-j", ",".join(job_ids), "-o", "%i|%T|%U|%r"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except FileNotFoundError:
        return [], "squeue is not installed on this machine"
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"squeue: {error}"
    if done.returncode == 0:
        return done.stdout.splitlines(), ""
    said = done.stderr.strip() or f"squeue exits {done.returncode}"
    if "Invalid job id" in said:  # SLURM has forgotten the only one asked for
        return [], ""
    return [], said.splitlines()[-1]
