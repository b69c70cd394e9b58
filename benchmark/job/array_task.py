"""What a job on SLURM starts with: find its run in the submission, make sure of the code, work on the run.

``python <snapshot> <sweep>/job/submissions/<token>.json`` is called by every rank of every array task.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark.runs import snapshot
from benchmark.runs import submission as submissions
from benchmark.runs.errors import write_error
from benchmark.runs.folder import RunFolder

VISIBLE_SECONDS = 60.0
"""How long a slow file system may take to show on a node what was written before the submission."""


def main(words: Sequence[str]) -> int:
    """0 if the run is done, or another process works on it; errors are left in the run's folder and raised."""
    path = Path(words[0])
    try:
        submission = submissions.read(path)
    except FileNotFoundError:
        sys.exit(f"{path} is gone: SLURM had not shown this job in time, and its runs were submitted again")
    folder = RunFolder(path.parents[2] / submission.runs[int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))])
    _wait_for(folder.config)
    try:
        snapshot.check(submission.snapshot)
        from benchmark.job import process  # not before: what was changed may not even load
    except Exception as error:
        if os.environ.get("SLURM_PROCID", "0") == "0":
            write_error(folder, error)
        raise
    os.environ["SUBMITIT_FOLDER"] = str(path.parents[1])
    process.start(str(folder))
    return 0


def _wait_for(path: Path) -> None:
    """Until the folder's listing shows it: a listing makes network file systems look again."""
    end = time.monotonic() + VISIBLE_SECONDS
    while not (path.parent.is_dir() and path.name in os.listdir(path.parent)):
        if time.monotonic() > end:
            raise FileNotFoundError(f"{path} does not show on this node after {VISIBLE_SECONDS:.0f} s")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
