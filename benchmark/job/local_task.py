"""What submitit pickles for a process of this machine: a folder's name. Importing it takes no seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """Works on the run in ``folder`` when it is called; see ``process.start``."""

    folder: str

    def __call__(self) -> str:
        from benchmark.job import process  # in the process that submitit starts, not where the sweep is planned

        return process.start(self.folder)

    def checkpoint(self) -> Any:
        """For a signal that comes before ours are listened to; the run's own checkpoints say where to go on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
