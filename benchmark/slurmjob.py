"""The SLURM job that this process belongs to, what SLURM says of any job, and putting one back into the queue."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import time

SECONDS = 30.0
"""How long a command of SLURM's may take."""
TRIES, PAUSE_SECONDS = 4, 5.0
"""A controller that is away for a moment is asked again."""
WITH_PROCESSES = ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT")
"""States of a job in which a process of it may be at work."""
logger = logging.getLogger(__name__)


def job_id() -> str | None:
    """As SLURM's commands take it, ``12`` or ``12_3`` for a task of an array; None outside SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def restart_count() -> int:
    """How often SLURM has started this job again."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def node() -> str:
    """The name that SLURM has for this node, else the machine's."""
    return os.environ.get("SLURMD_NODENAME") or os.uname().nodename


def is_ours_to_requeue() -> bool:
    """Whether this process is what its job is for: several runs that share a job on this machine are not."""
    return job_id() is not None and os.environ.get("SUBMITIT_EXECUTOR") != "local"


def facts(job: str) -> dict[str, str] | None:
    """What ``scontrol show job`` says, by its own words (``JobState``, …); {} for a job that SLURM has forgotten.

    None if SLURM does not answer. It forgets a job minutes after its end (``MinJobAge``).
    """
    try:
        done = _call("scontrol", "show", "job", "-o", job)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return {} if "Invalid job id" in done.stderr + done.stdout else None
    lines = done.stdout.strip().splitlines()
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
        try:
            done = _call("scontrol", "requeue", job)
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
        else:
            if done.returncode == 0:
                return ""
            said = (done.stderr or done.stdout).strip()
        logger.warning("scontrol requeue %s: %s", job, said)
        if attempt + 1 < TRIES:
            time.sleep(PAUSE_SECONDS)
    return said


def _call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=SECONDS)
