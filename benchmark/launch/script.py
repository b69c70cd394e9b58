"""The script that sbatch gets, written by submitit."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import submitit

from benchmark.config.launch import LaunchConfig
from benchmark.runs import submission as submissions
from benchmark.runs.snapshot import Snapshot
from benchmark.runs.submission import Submission

START = (
    'trap "" USR1 USR2; n=0; until [ -e "$1/snapshot.json" ] && [ -e "$2" ] || [ $n -ge 60 ]; do n=$((n+1));'
    ' ls "$1" "${2%/*}" >/dev/null 2>&1; sleep 1; done; exec "$0" -u "$1" "$2"'
)
"""What a rank runs: wait for the files a slow file system does not show yet, then start Python on the snapshot.
A warning that comes so early is not to end it: Python takes it up, or the next one."""


def script_of(
    launch: LaunchConfig, submission: Submission, folder: Path, code: Snapshot, dependency: str, share: float
) -> str:
    """What sbatch gets, written by submitit."""
    parameters = slurm_parameters(launch, submission.job_name)
    root = shlex.quote(str(code.folder))
    parameters["setup"] = [f"export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}", *parameters["setup"]]
    if dependency:  # a run that waits for one that failed leaves the queue instead of waiting for ever
        others = parameters["additional_parameters"]
        both = [word for word in (others.get("dependency"), dependency) if word]
        ours = {"dependency": ",".join(both), "kill-on-invalid-dep": "yes"}
        parameters["additional_parameters"] = {**others, **ours}
    count = len(submission.runs)
    at_once = count if launch.at_once is None else max(1, int(launch.at_once * share))
    executor = submitit.SlurmExecutor(folder=for_slurm(folder / "job"))
    executor.update_parameters(**parameters, array_parallelism=at_once)
    if count > 1:
        executor.parameters["map_count"] = count
    intent = submissions.path_of(folder, submission)
    command = shlex.join(["sh", "-c", START, sys.executable, str(code.folder), str(intent)])
    return str(executor._make_submission_file_text(command, submission.token))


def for_slurm(path: Path) -> Path:
    """A path for the output of a job, in which SLURM takes ``%j`` and the like for its own words."""
    return Path(str(path).replace("%", "%%"))


def slurm_parameters(launch: LaunchConfig, name: str) -> dict[str, Any]:
    """What ``SlurmExecutor.update_parameters`` takes; options that were not set are left to the cluster."""
    asked = {
        "partition": launch.partition,
        "account": launch.account,
        "qos": launch.qos,
        "constraint": launch.constraint,
        "mem": f"{launch.memory_gb}GB" if launch.memory_gb else None,
        "gpus_per_node": launch.gpus or None,
        "setup": [f"export OMP_NUM_THREADS={launch.cpus}", *launch.setup],
        "additional_parameters": launch.sbatch_options,
        "srun_args": launch.srun_words,
    }
    return {
        "job_name": name,
        "time": launch.minutes,
        "signal_delay_s": launch.warning_seconds,
        "nodes": launch.nodes,
        "ntasks_per_node": launch.ranks_per_node,
        "cpus_per_task": launch.cpus,
        "stderr_to_stdout": True,
        "wckey": None,  # submitit would set one, which clusters that track them refuse
        **{key: value for key, value in asked.items() if value is not None},
    }
