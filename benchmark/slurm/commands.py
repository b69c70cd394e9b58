"""Calling SLURM's commands: with a time limit, and free of what a surrounding job left in the environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

SECONDS = 60.0
ABSENT, TOO_LONG = 127, 124
"""Exit codes, as a shell gives them, of a command that is not there or took too long."""
KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
"""How the cluster is found, and who one is there."""
SLURMS = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SCANCEL_", "SINFO_", "SCONTROL_")
"""What these variables say, SLURM takes for options; a sweep's ``launch`` is the one place for those."""
OF_A_JOB = ("PMI_", "PMIX_", "OMPI_", "SUBMITIT_")
OF_A_RANK = (
    "CUDA_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "ROCR_VISIBLE_DEVICES",
    "LOCAL_RANK",
    "RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)
"""Inside a job, what it and its ranks were given: a job submitted from there gets its own."""


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    error: str

    @property
    def reason(self) -> str:
        """The last line of what went wrong."""
        words = (self.error.strip() or self.out.strip()).splitlines()
        return words[-1].strip() if words else f"exit code {self.code}, without a word"


def call(words: Sequence[str], seconds: float = SECONDS) -> Answer:
    """Run a command of SLURM's; whatever happens, there is an answer."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, env=clean_environment())
    except subprocess.TimeoutExpired:
        return Answer(TOO_LONG, "", f"{words[0]} took longer than {seconds:.0f} s")
    except FileNotFoundError:
        return Answer(ABSENT, "", f"{words[0]} is not installed on this machine")
    except OSError as error:
        return Answer(ABSENT, "", f"{words[0]}: {error}")
    return Answer(done.returncode, done.stdout, done.stderr)


def clean_environment() -> dict[str, str]:
    """This process's environment without SLURM's options, and within a job without what that job was given."""
    unwanted = SLURMS + (OF_A_JOB if is_within_job() else ())
    return {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or not (name.startswith(unwanted) or (is_within_job() and name in OF_A_RANK))
    }


def is_within_job() -> bool:
    return "SLURM_JOB_ID" in os.environ


def unused_options() -> list[str]:
    """Options of sbatch that someone set in the environment, where they are not used."""
    return [] if is_within_job() else sorted(name for name in os.environ if name.startswith("SBATCH_"))
