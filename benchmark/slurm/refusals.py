"""Why SLURM does not take or start a job, by its own words: what has to change, or that time alone helps."""

from __future__ import annotations

import re

COUNTS_JOBS = r"SubmitJob|MaxJob|GrpJob|QOSJobLimit|AssociationJobLimit"
"""Parts of the names of limits on the number of jobs: fewer might be taken, or the same ones later."""
NO_NAME = r"accounting/QOS policy(?: \([^)]*\))?"
"""What SLURM says where it keeps the limit's name to itself: of sizes and times, whichever it is."""
OPTIONS = {
    r"WallDuration|WallLimit|TimeLimit|[Tt]ime limit": "launch.minutes",
    r"Minutes": "launch.minutes, gpus or account (this one has spent what it may use)",
    r"(node|partition) configuration|PartitionConfig|feature": "launch.gpus, cpus, memory_gb or constraint",
    r"\b[Aa]ccount\b": "launch.account",
    r"\b[Pp]artition\b": "launch.partition",
    r"\b[Qq][Oo][Ss]\b": "launch.qos",
    r"[Dd]ependency": "launch.sbatch.dependency",
    r"[Ll]icense": "launch.sbatch.licenses",
    r"[Rr]eservation": "launch.sbatch.reservation",
    r"GRES|\bgres\b|\bGPU": "launch.gpus",
    r"Mem|\bmem(ory)?\b": "launch.memory_gb",
    r"NodePer|(Grp|Min|Max)Node|[Nn]ode count|NodeLimit": "launch.nodes",
    r"Cpu|CPU|[Pp]rocessors": "launch.cpus or launch.ranks",
}
"""The option of a sweep that answers a refusal, by what SLURM says; the first that fits."""
NEVER_PASSES = r"Per(Job|Node)|WallDuration|QOSMin|MaxMemPerLimit|(?<!Run)Minutes"
"""Reasons of a job that waits though no end of another job will let it start."""


def counts_jobs(words: str) -> bool:
    """Whether it is a limit on the number of jobs."""
    return re.search(COUNTS_JOBS, words) is not None


def is_unclear(words: str) -> bool:
    """Whether a limit refuses that SLURM does not name."""
    return re.search(NO_NAME, words) is not None and not counts_jobs(words) and not option_for(words)


def option_for(words: str) -> str:
    """What to change; "" if the words do not tell."""
    told = re.sub(NO_NAME, "", words)
    return next((option for pattern, option in OPTIONS.items() if re.search(pattern, told)), "")


def never_passes(reason: str) -> bool:
    """Whether a job that waits for this reason of squeue's asks for more, or less, than it will ever get."""
    return re.search(NEVER_PASSES, reason) is not None
