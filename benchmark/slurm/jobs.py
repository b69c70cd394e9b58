"""Jobs as scontrol and squeue tell of them, and putting one back into the queue."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from benchmark.slurm.commands import call
from benchmark.slurm.refusals import never_passes, option_for

TO_DO = {
    "DependencyNeverSatisfied": "what it waits for failed: --cancel, then the same command with --retry",
    "JobHeldUser": "held: scontrol release {id}",
    "JobHeldAdmin": "held by an administrator: ask them, or --cancel",
    "requeued in held state": "held after a failed start: scontrol release {id}",
    "requeued held": "held after a failed start: scontrol release {id}",
    "PartitionTimeLimit": "asks for more time than its partition gives: lower launch.minutes",
    "PartitionNodeLimit": "asks for more nodes than its partition has: lower launch.nodes",
    "PartitionConfig": "no node of its partition gives this: lower launch.gpus, cpus or memory_gb",
    "PartitionDown": "its partition takes jobs and starts none: another launch.partition, or ask why",
    "PartitionInactive": "its partition takes no jobs: another launch.partition",
    "ReservationDeleted": "its reservation is gone: --cancel, then another launch.sbatch.reservation",
    "JobHoldMaxRequeue": "held after too many starts: scontrol release {id}",
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
        if never_passes(self.reason):
            option = option_for(self.reason) or "what it asks for"
            return f"{self.reason}: would never start: --cancel, then change {option}"
        return "" if self.reason in ("None", "(null)") else self.reason


def jobs_in(lines: Sequence[str]) -> dict[str, QueuedJob]:
    """By id; what is no line of ``LINE`` is a word of somebody else's, such as a site's banner."""
    jobs = {}
    for line in lines:
        if not re.match(r"\d+(_\d+)?\|", line):
            continue
        job_id, state, owner, reason, end = [*line.split("|"), "", "", "", ""][:5]
        jobs[job_id] = QueuedJob(job_id, state, int(owner or -1), reason.strip(), end)
    return jobs


logger = logging.getLogger(__name__)
SECONDS = 30.0
"""How long a command of SLURM's may take."""
TRIES, PAUSE_SECONDS = 4, 5.0
"""A controller that is away for a moment is asked again."""
WITH_PROCESSES = ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT")
"""States of a job in which a process of it may be at work."""


def facts(job: str) -> dict[str, str] | None:
    """What ``scontrol show job`` says, by its own words (``JobState``, …); {} for a job that SLURM has forgotten.

    None if SLURM does not answer. It forgets a job minutes after its end (``MinJobAge``).
    """
    answer = call(["scontrol", "show", "job", "-o", job], SECONDS)
    if answer.code != 0:
        return {} if "Invalid job id" in answer.error + answer.out else None
    lines = [line for line in answer.out.splitlines() if line.startswith("JobId=")]
    return dict(re.findall(r"(\S+?)=(\S*)", lines[-1])) if lines else {}


def may_run(job: str) -> bool:
    """Whether a process of the job may be at work: it is, or SLURM does not say."""
    found = facts(job)
    return found is None or found.get("JobState") in WITH_PROCESSES


def is_preempted(found: dict[str, str]) -> bool:
    """Whether a job that runs has been told to go: one that now ends by itself would not be queued again."""
    return found.get("JobState") == "RUNNING" and found.get("PreemptTime", "None") not in ("None", "Unknown")


def requeue(job: str) -> str:
    """Queue this job again from its start; SLURM then ends its processes. Returns why not, or ""."""
    said = ""
    for attempt in range(TRIES):
        answer = call(["scontrol", "requeue", job], SECONDS)
        if answer.code == 0:
            return ""
        said = answer.reason
        logger.warning("scontrol requeue %s: %s", job, said)
        if attempt + 1 < TRIES:
            time.sleep(PAUSE_SECONDS)
    return said


LINE = "%i|%T|%U|%r|%e"
"""What is asked of squeue: id, state, user's number, reason, end."""


def ask_squeue(*words: str, seconds: float = 30.0) -> tuple[list[str], str]:
    """squeue's lines on all jobs it still knows, ended ones too, a line an array task; or why there are none."""
    answer = call(["squeue", "-h", "-r", "-t", "all", *words, "-o", LINE], seconds)
    if answer.code == 0:
        return answer.out.splitlines(), ""
    if "Invalid job id" in answer.error:  # SLURM has forgotten the only one asked for
        return [], ""
    return [], answer.reason if answer.error.strip() or answer.out.strip() else f"squeue exits {answer.code}"
