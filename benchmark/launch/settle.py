"""What became of a submission whose launcher did not live to see it."""

from __future__ import annotations

import time
from pathlib import Path

from benchmark.runs import submission as submissions
from benchmark.runs.submission import Submission, finish, is_fresh, withdraw
from benchmark.slurm.jobs import ask_squeue, jobs_in


def settle(folder: Path, submission: Submission, seconds: float) -> tuple[str, str]:
    """The job that came of an intent ("" if none did), and why that cannot be said now ("" if it can).

    Waits for it until the intent is ``seconds`` old. A job that turns up later still finds its intent gone and
    leaves the runs alone.
    """
    while True:
        fresh = is_fresh(folder, submission, seconds)
        lines, silent = ask_squeue("-n", submission.job_name)
        found = list(jobs_in(lines))
        if silent or found:
            return (found[0].split("_")[0] if found else ""), silent
        if not fresh:
            return "", ""
        time.sleep(1.0)


def recover(folder: Path, submission: Submission, seconds: float | None = None) -> tuple[list[str], str]:
    """Bring an open intent to its end: the jobs it became, and why it must stay open ("" if it need not)."""
    job_id, silent = settle(folder, submission, submissions.SETTLE_SECONDS if seconds is None else seconds)
    if job_id:
        return finish(folder, submission, job_id), ""
    if not silent:
        withdraw(folder, submission)
    return [], silent
