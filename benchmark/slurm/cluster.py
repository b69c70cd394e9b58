"""What SLURM's own commands say of a cluster: their words, and its limits."""

from __future__ import annotations

import os
import re

from benchmark.slurm.commands import call, is_within_job

DEFAULT_ARRAY_SIZE = 1001
"""SLURM's own, where it does not say."""


def ask(*command: str) -> tuple[int, str]:
    """Exit code and words of a command; 127 if it is not there, 124 if it takes too long."""
    answer = call(command)
    return answer.code, answer.out if answer.code == 0 else answer.error + answer.out


def largest_array() -> int:
    """Tasks that one array may have; 1 where there are no arrays."""
    config = ask("scontrol", "show", "config")[1]
    size = int(setting(config, "MaxArraySize") or DEFAULT_ARRAY_SIZE)
    tasks = re.search(r"max_array_tasks=(\d+)", config)
    return max(1, min(size, int(tasks.group(1)) if tasks else size))


def free_places() -> int | None:
    """Jobs that SLURM's memory still takes (MaxJobCount); None if it does not say."""
    limit = setting(ask("scontrol", "show", "config")[1], "MaxJobCount")
    code, lines = ask("squeue", "-h", "-r", "-a", "-t", "all", "-o", "%i")
    taken = sum(bool(re.fullmatch(r"\d+(_\d+)?", line)) for line in lines.splitlines())
    return int(limit) - 1 - taken if limit and code == 0 else None


def own_name() -> str | None:
    """What SLURM's commands call the cluster that they ask by themselves."""
    return setting(ask("scontrol", "show", "config")[1], "ClusterName")


def other_clusters() -> str:
    """What the environment says of clusters, where that is not the one that is asked anyway: ``NAME=value``."""
    for name in () if is_within_job() else ("SLURM_CLUSTERS", "SBATCH_CLUSTERS"):
        value = os.environ.get(name)
        if value and value != own_name():
            return f"{name}={value}"
    return ""


def setting(config: str, name: str) -> str | None:
    found = re.search(rf"^{name}\s*=\s*(.*?)\s*$", config, re.MULTILINE)
    return found.group(1) if found else None
