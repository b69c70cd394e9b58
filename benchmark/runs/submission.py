"""What was handed to sbatch: on disk before the call, so that whoever comes next can tell what became of it.

``<sweep>/job/submissions/<token>.json`` is the intent: the token (part of the job's name), the runs in array
order, the code. ``<token>.id`` holds the job's id once every run's ``job/submitted.json`` names it. An intent
without an id is *open*: its launcher died, or SLURM did not answer; squeue knows the token if it has the job.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.files import write_text, write_texts
from benchmark.runs.folder import SUBMISSIONS_FOLDER, RunFolder

SETTLE_SECONDS = 20.0
"""How long after a call of sbatch a job may still turn up in squeue; after that the call had no effect."""


@dataclass(frozen=True)
class Submission:
    """An intent."""

    token: str
    job_name: str
    runs: tuple[str, ...]
    """Names of the runs; a run's place is its number in the array."""
    snapshot: str

    def ids(self, job_id: str) -> list[str]:
        """The job of each run; a run alone is no array."""
        return [job_id] if len(self.runs) == 1 else [f"{job_id}_{i}" for i in range(len(self.runs))]


def begin(folder: Path, sweep: str, runs: Sequence[str], snapshot: str) -> Submission:
    """Leave an intent in the sweep's ``folder``."""
    token = uuid.uuid4().hex[:10]
    submission = Submission(token, f"{sweep}-{token}", tuple(runs), snapshot)
    write_text(path_of(folder, submission), json.dumps(asdict(submission), indent=1) + "\n")
    return submission


def finish(folder: Path, submission: Submission, job_id: str) -> list[str]:
    """SLURM took it: let every run's folder name its job; returns the jobs."""
    ids = submission.ids(job_id)
    texts = {}
    for run, own in zip(submission.runs, ids, strict=True):
        content = {"job_id": own, "submission": submission.token, "snapshot": submission.snapshot}
        texts[RunFolder(folder / run).submitted] = json.dumps(content) + "\n"
    write_texts(texts)
    write_text(path_of(folder, submission).with_suffix(".id"), job_id + "\n")
    return ids


def withdraw(folder: Path, submission: Submission) -> None:
    """SLURM did not take it, and never will."""
    path_of(folder, submission).unlink(missing_ok=True)
    path_of(folder, submission).with_suffix(".sh").unlink(missing_ok=True)


def path_of(folder: Path, submission: Submission) -> Path:
    return folder / SUBMISSIONS_FOLDER / f"{submission.token}.json"


def read(path: Path) -> Submission:
    """Raises OSError or ValueError for a file that is none."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Submission(**{**content, "runs": tuple(content["runs"])})


def open_ones(folder: Path) -> list[Submission]:
    """Intents of the sweep in ``folder`` of which no job is known, oldest first."""
    try:
        names = set(os.listdir(folder / SUBMISSIONS_FOLDER))
    except FileNotFoundError:
        return []
    tokens = {n.removesuffix(".json") for n in names if n.endswith(".json")}
    paths = [folder / SUBMISSIONS_FOLDER / f"{token}.json" for token in tokens if f"{token}.id" not in names]
    return [read(path) for path in sorted(paths, key=lambda path: path.stat().st_mtime)]


def is_fresh(folder: Path, submission: Submission, seconds: float | None = None) -> bool:
    """Whether its job may still turn up."""
    limit = SETTLE_SECONDS if seconds is None else seconds
    try:
        return time.time() - path_of(folder, submission).stat().st_mtime < limit
    except FileNotFoundError:
        return False


def job_of(folder: RunFolder) -> str | None:
    """The job a run was last submitted as; None if it never was."""
    try:
        return str(json.loads(folder.submitted.read_text())["job_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
