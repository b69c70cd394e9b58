"""Submitting runs to SLURM: submitit writes the script, we call sbatch. What is queued, ``status.queue`` tells.

Runs of one shape go out as arrays, each as large as the cluster takes. See ``runs.submission`` for what is on disk
before a call, so that a launcher may die at any moment and nothing is lost or doubled.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import submitit
from submitit.core.utils import FailedSubmissionError

from benchmark.files import absolute, write_text
from benchmark.launch import settle
from benchmark.launch.sbatch import AWAY, BUSY, FULL, alone, sbatch
from benchmark.launch.script import script_of
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.runs import snapshot
from benchmark.runs import submission as submissions
from benchmark.runs.folder import RunFolder
from benchmark.runs.snapshot import Snapshot
from benchmark.runs.state import has_record
from benchmark.runs.submission import job_of
from benchmark.slurm.cluster import free_places, largest_array
from benchmark.slurm.commands import TOO_LONG, Answer

BUSY_SECONDS = 2.0
"""After the end of an sbatch that waited, how long its job may still turn up: each of its calls had got a no."""
PAUSES = (2.0, 5.0, 10.0)
"""Seconds before further calls when SLURM's controller cannot be reached."""


@dataclass
class Sent:
    """What became of runs that were to be submitted."""

    ids: list[str] = field(default_factory=list)
    left: int = 0
    """Runs that were not submitted."""
    reason: str = ""
    """Why not."""


def submit_slurm(runs: Sequence[PlannedRun], folder: Path) -> Sent:
    """Submit runs of one shape that wait for the same runs as arrays, those that wait after the others.

    When SLURM takes no more, as many as it takes. Raises ConfigError if it refuses for another reason, and
    SnapshotError. Everything that was submitted is on disk by then.
    """
    for program in ("sbatch", "srun"):
        if shutil.which(program) is None:
            raise ConfigError(f"{program} is not installed on this machine: use --cluster local")
    folder = absolute(folder)
    code = snapshot.take(folder / "code")
    largest = largest_array()
    sent = Sent(left=len(runs))
    for group, dependency in _shapes(runs):
        rest, part = list(group), largest
        while rest:
            part = min(part, len(rest))
            ids, reason = _send(rest[:part], folder, code, dependency, part / len(group))
            if ids:
                sent.ids += ids
                sent.left -= part
                del rest[:part]
                continue
            if not re.search(f"{FULL}|{AWAY}", reason):
                done = f"; {len(sent.ids)} runs were submitted before, {sent.left} were not" if sent.ids else ""
                raise ConfigError(f"sbatch refuses: {reason}{done}")
            part = _smaller(part, reason)
            if part < 1:
                return Sent(sent.ids, sent.left, reason)
    return sent


def _smaller(part: int, reason: str) -> int:
    """The next size to try; 0 if nothing goes any more."""
    if not re.search(FULL, reason):
        return 0
    room = free_places() if re.search(BUSY, reason) else None
    return room if room is not None and room < part else part // 2


def recover(folder: Path) -> list[str]:
    """Find out what became of submissions whose launcher did not live to see it, and say so, a line each."""
    folder = absolute(folder)
    if not submissions.open_ones(folder):
        return []
    said = []
    with alone(folder):  # an sbatch that outlives its launcher may still succeed
        for submission in submissions.open_ones(folder):
            ids, silent = settle.recover(folder, submission)
            what = f"a submission of {len(submission.runs)} runs was cut off"
            if ids:
                said.append(f"{what}: SLURM has it, job {ids[0].split('_')[0]}")
            elif not silent:
                said.append(f"{what}: SLURM does not have it")
    return said


def _shapes(runs: Sequence[PlannedRun]) -> Iterator[tuple[list[PlannedRun], str]]:
    """Groups that go out together with what they depend on; ask for the next when one has been submitted."""
    waiting = list(runs)
    while waiting:
        ahead = {run.config.name for run in waiting}
        ready = [run for run in waiting if ahead.isdisjoint(run.config.waits_for)]
        assert ready, "a plan has no circles"
        left = {run.config.name for run in ready}
        waiting = [run for run in waiting if run.config.name not in left]
        shapes: dict[tuple[str, str], list[PlannedRun]] = defaultdict(list)
        for run in ready:
            shapes[json.dumps(vars(run.config.launch), sort_keys=True), _dependency(run)].append(run)
        for (_, dependency), group in shapes.items():
            yield group, dependency


def _dependency(run: PlannedRun) -> str:
    """sbatch's ``dependency``: after the runs it waits for have ended well; "" if none of them is left."""
    missing = [name for name in run.config.waits_for if not has_record(RunFolder(run.folder.parent / name))]
    jobs = [job_id for name in missing if (job_id := job_of(RunFolder(run.folder.parent / name)))]
    return f"afterok:{':'.join(jobs)}" if jobs else ""


def _send(
    group: Sequence[PlannedRun], folder: Path, code: Snapshot, dependency: str, share: float
) -> tuple[list[str], str]:
    """Submit one array: the jobs, or none and why. ``share`` is the array's part of its shape's runs."""
    config = group[0].config
    for pause in (*PAUSES, None):
        submission = submissions.begin(folder, config.sweep, [run.config.name for run in group], code.name)
        script = submissions.path_of(folder, submission).with_suffix(".sh")
        write_text(script, script_of(config.launch, submission, folder, code, dependency, share))
        answer = sbatch(script, folder)
        if answer.code == 0:
            try:
                job_id = submitit.SlurmExecutor._get_job_id_from_submission_command(answer.out)
                return submissions.finish(folder, submission, job_id), ""
            except FailedSubmissionError as error:  # a wrapper of sbatch that says it in its own words
                answer = Answer(0, "", str(error).splitlines()[0])
        elif answer.code != TOO_LONG and not re.search(AWAY, answer.error):
            submissions.withdraw(folder, submission)
            return [], " ".join(answer.error.split())
        is_busy = re.search(BUSY, answer.error) is not None
        wait = BUSY_SECONDS if is_busy else submissions.SETTLE_SECONDS
        ids, silent = settle.recover(folder, submission, wait)
        if ids:
            return ids, ""
        if is_busy:
            return [], " ".join(answer.error.split())
        if silent or pause is None or answer.code in (0, TOO_LONG):
            return [], f"Unable to contact SLURM: {silent or answer.reason}"
        time.sleep(pause)
    raise AssertionError("the last pause returns")
