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
from benchmark.slurmcall import call

FOLDER = "job/submissions"
SUBMITTED_FILE = "job/submitted.json"
"""In a run's folder: the job it was last submitted as, and the snapshot of the code it runs."""
SETTLE_SECONDS = 20.0
"""How long after a call of sbatch a job may still turn up in squeue; after that the call had no effect."""
LINE = "%i|%T|%U|%r|%e"
"""What is asked of squeue: id, state, user's number, reason, end."""


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
        texts[folder / run / SUBMITTED_FILE] = json.dumps(content) + "\n"
    write_texts(texts)
    write_text(path_of(folder, submission).with_suffix(".id"), job_id + "\n")
    return ids


def withdraw(folder: Path, submission: Submission) -> None:
    """SLURM did not take it, and never will."""
    path_of(folder, submission).unlink(missing_ok=True)
    path_of(folder, submission).with_suffix(".sh").unlink(missing_ok=True)


def path_of(folder: Path, submission: Submission) -> Path:
    return folder / FOLDER / f"{submission.token}.json"


def read(path: Path) -> Submission:
    """Raises OSError or ValueError for a file that is none."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Submission(**{**content, "runs": tuple(content["runs"])})


def open_ones(folder: Path) -> list[Submission]:
    """Intents of the sweep in ``folder`` of which no job is known, oldest first."""
    try:
        names = set(os.listdir(folder / FOLDER))
    except FileNotFoundError:
        return []
    tokens = {n.removesuffix(".json") for n in names if n.endswith(".json")}
    paths = [folder / FOLDER / f"{token}.json" for token in tokens if f"{token}.id" not in names]
    return [read(path) for path in sorted(paths, key=lambda path: path.stat().st_mtime)]


def ask_squeue(*words: str, seconds: float = 30.0) -> tuple[list[str], str]:
    """squeue's lines on all jobs it still knows, ended ones too, a line an array task; or why there are none."""
    answer = call(["squeue", "-h", "-r", "-t", "all", *words, "-o", LINE], seconds)
    if answer.code == 0:
        return answer.out.splitlines(), ""
    if "Invalid job id" in answer.error:  # SLURM has forgotten the only one asked for
        return [], ""
    return [], answer.reason if answer.error.strip() or answer.out.strip() else f"squeue exits {answer.code}"


def is_fresh(folder: Path, submission: Submission, seconds: float | None = None) -> bool:
    """Whether its job may still turn up."""
    limit = SETTLE_SECONDS if seconds is None else seconds
    try:
        return time.time() - path_of(folder, submission).stat().st_mtime < limit
    except FileNotFoundError:
        return False


def settle(folder: Path, submission: Submission, seconds: float) -> tuple[str, str]:
    """The job that came of an intent ("" if none did), and why that cannot be said now ("" if it can).

    Waits for it until the intent is ``seconds`` old. A job that turns up later still finds its intent gone and
    leaves the runs alone.
    """
    while True:
        fresh = is_fresh(folder, submission, seconds)
        lines, silent = ask_squeue("-n", submission.job_name)
        if silent or lines:
            return (lines[0].split("|")[0].split("_")[0] if lines else ""), silent
        if not fresh:
            return "", ""
        time.sleep(1.0)


def recover(folder: Path, submission: Submission, seconds: float | None = None) -> tuple[list[str], str]:
    """Bring an open intent to its end: the jobs it became, and why it must stay open ("" if it need not)."""
    job_id, silent = settle(folder, submission, SETTLE_SECONDS if seconds is None else seconds)
    if job_id:
        return finish(folder, submission, job_id), ""
    if not silent:
        withdraw(folder, submission)
    return [], silent
