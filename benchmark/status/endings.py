"""How a job ended, told by the end of its log or by SLURM."""

from __future__ import annotations

import re
from pathlib import Path

from benchmark.runs.attempts import ATTEMPT_MARK
from benchmark.slurm import jobs

NO_MEMORY = "killed for want of memory"
OUT_OF_TIME = "out of time: it goes on from its checkpoint"
ENDINGS = {
    r"oom[-_ ]?kill|out[- ]of[- ]memory|exceeded (job |step )?memory limit": NO_MEMORY,
    r"DUE TO TIME LIMIT": OUT_OF_TIME,
    r"DUE TO NODE FAILURE|NODE_FAIL": "its node failed",
    r"DUE TO PREEMPTION": "preempted",
    r"CANCELLED AT|Terminated|KeyboardInterrupt": "cancelled",
    r"could not find submitted jobs": "never began: what submitit was to start is missing",
    r"\bKilled\b|\bsignal 9\b": "killed (SIGKILL): by hand, or for want of memory",
}
"""What a job's log says of its end, the surest first."""
STATES_OF_JOBS = {
    "OUT_OF_MEMORY": NO_MEMORY,
    "TIMEOUT": OUT_OF_TIME,
    "DEADLINE": OUT_OF_TIME,
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node failed",
    "PREEMPTED": "preempted",
    "CANCELLED": "cancelled",
}
"""What scontrol says of it, for the minutes that SLURM remembers a job."""
TAIL_BYTES = 20_000
_WORDS: dict[str, str] = {}
"""What SLURM said of jobs that have ended: a status that is watched asks once."""


def tail_of(log: Path | None) -> str:
    """The end of a log, from where the last attempt began: one file takes them all."""
    if log is None:
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace").rpartition(ATTEMPT_MARK)[2]


def told_by(words: str) -> str:
    """How a run ended, by the words of its log; "" where they do not tell."""
    return next((said for pattern, said in ENDINGS.items() if re.search(pattern, words)), "")


def slurms_word(job_id: str) -> str:
    if job_id not in _WORDS:
        found = jobs.facts(job_id)
        if found is None:
            return ""
        _WORDS[job_id] = STATES_OF_JOBS.get(found.get("JobState", ""), "")
    return _WORDS[job_id]
