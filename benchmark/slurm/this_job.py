"""The SLURM job that this process belongs to."""

from __future__ import annotations

import os


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
