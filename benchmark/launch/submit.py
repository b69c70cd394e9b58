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
from typing import NoReturn

from benchmark.files import absolute, write_text
from benchmark.launch import settle
from benchmark.launch.sbatch import AWAY, BUSY, advice, alone, is_full, job_number, other_cluster, refusal, sbatch
from benchmark.launch.script import script_of
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.runs import snapshot
from benchmark.runs import submission as submissions
from benchmark.runs.folder import RunFolder
from benchmark.runs.snapshot import Snapshot
from benchmark.runs.state import has_record
from benchmark.runs.submission import Submission, job_of
from benchmark.slurm.cluster import free_places, largest_array, other_clusters
from benchmark.slurm.commands import TOO_LONG, Answer, call
from benchmark.slurm.refusals import is_unclear

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
    if elsewhere := other_clusters():
        raise ConfigError(
            f"{elsewhere}: a sweep asks one cluster about its jobs, the one that squeue asks by itself; unset it,"
            " or call the command on a login node of that cluster, or with SLURM_CONF naming its slurm.conf"
        )
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
            # one that names no limit counts jobs if others of the same kind went out, or fewer do
            is_later = is_full(reason) or (is_unclear(reason) and (part > 1 or len(rest) < len(group)))
            if not is_later and not re.search(AWAY, reason):
                done = f"; {len(sent.ids)} runs were submitted before, {sent.left} were not" if sent.ids else ""
                told = advice(reason)
                raise ConfigError(f"sbatch refuses: {reason}{f': {told}' if told else ''}{done}")
            part = _smaller(part, reason)
            if part < 1:
                return Sent(sent.ids, sent.left, reason)
    return sent


def _smaller(part: int, reason: str) -> int:
    """The next size to try; 0 if nothing goes any more."""
    if re.search(AWAY, reason):
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
            if cluster := other_cluster(answer):
                _take_back(folder, submission, job_number(answer), cluster)
            if job_id := job_number(answer):
                return submissions.finish(folder, submission, job_id), ""
            # a wrapper of sbatch that says it in its own words: the queue knows the job by its name
            answer = Answer(0, "", f"sbatch says no job's number, and squeue shows no {submission.job_name}")
        elif answer.code != TOO_LONG and not re.search(AWAY, answer.error):
            submissions.withdraw(folder, submission)
            return [], refusal(answer)
        is_busy = re.search(BUSY, answer.error) is not None
        wait = BUSY_SECONDS if is_busy else submissions.SETTLE_SECONDS
        ids, silent = settle.recover(folder, submission, wait)
        if ids:
            return ids, ""
        if is_busy:
            return [], refusal(answer)
        if silent or pause is None or answer.code in (0, TOO_LONG):
            return [], f"Unable to contact SLURM: {silent or answer.reason}"
        time.sleep(pause)
    raise AssertionError("the last pause returns")


def _take_back(folder: Path, submission: Submission, job_id: str, cluster: str) -> NoReturn:
    """A job on a cluster that squeue does not ask here would be lost and sent again. Raises ConfigError."""
    submissions.withdraw(folder, submission)  # so that its job, should it start, leaves the runs alone
    call(["scancel", "-M", cluster, job_id])
    raise ConfigError(
        f"sbatch sent job {job_id} to cluster {cluster}, which squeue does not ask here: it was taken back; call"
        " the command on a login node of that cluster, or with SLURM_CONF naming its slurm.conf"
    )
