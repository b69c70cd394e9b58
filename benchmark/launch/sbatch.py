"""One call of sbatch: ended when it takes too long, and what its words mean."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from benchmark.files import try_lock
from benchmark.runs.folder import SUBMISSIONS_FOLDER
from benchmark.runs.lease import HeldError
from benchmark.slurm.cluster import own_name
from benchmark.slurm.commands import ABSENT, TOO_LONG, Answer, clean_environment
from benchmark.slurm.refusals import counts_jobs, is_unclear, option_for

SBATCH_SECONDS = 60.0
"""How long a call may take; by itself sbatch tries for two minutes when SLURM is full."""
PATIENCE_SECONDS = 6.0
"""How long it may try again after it has said that SLURM takes nothing now."""
ORPHAN_SECONDS = 180.0
"""How long an sbatch can live on whose launcher was killed."""
MOST_BYTES = 100_000
LOCK_FILE = f"{SUBMISSIONS_FOLDER}/sbatch.lock"

BUSY = r"sleeping and retrying|queue full|[Rr]esource temporarily unavailable"
"""sbatch says this and goes on trying."""
TOO_MANY = r"Invalid job array specification"
"""The array is too large."""
AWAY = r"Unable to contact|Socket timed out|onnection (refused|timed out|reset)|Communication|Zero Bytes|Transport"
"""The controller cannot be reached, or its answer was lost: the job may be there or not."""


def sbatch(script: Path, folder: Path) -> Answer:
    """Call sbatch; end it when it waits for a full SLURM. While it lives, it holds the sweep's sbatch lock."""
    words = ["sbatch", str(script)]
    with (
        alone(folder) as lock,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as error,
    ):

        def said(file: IO[bytes]) -> str:
            return os.pread(file.fileno(), MOST_BYTES, 0).decode(errors="replace")  # its place is the child's

        environment, handed = clean_environment(), (lock.fileno(),)
        try:
            process = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=error, pass_fds=handed
            )
        except OSError as failure:
            return Answer(ABSENT, "", f"sbatch: {failure}")
        end = time.monotonic() + SBATCH_SECONDS
        is_busy = False
        while process.poll() is None:
            if not is_busy and re.search(BUSY, said(error)):
                is_busy, end = True, min(end, time.monotonic() + PATIENCE_SECONDS)
            if time.monotonic() > end:
                process.kill()
                process.wait()
                words_said = said(error).strip() or f"sbatch took longer than {SBATCH_SECONDS:.0f} s"
                return Answer(TOO_LONG, said(out), words_said)
            time.sleep(0.02)
        return Answer(process.returncode, said(out), said(error))


def job_number(answer: Answer) -> str:
    """The job that sbatch says it has submitted, whatever a site lets it say besides; "" if that is not clear."""
    found = set(re.findall(r"^Submitted batch job (\d+)\b", answer.out, re.MULTILINE))
    return found.pop() if len(found) == 1 else ""


def other_cluster(answer: Answer) -> str:
    """The cluster that sbatch says it has sent the job to, where it does not name its own alone."""
    found = re.search(r"^Submitted batch job \d+ on cluster (\S+)", answer.out, re.MULTILINE)
    return found.group(1) if found and found.group(1) != own_name() else ""


def refusal(answer: Answer) -> str:
    """Why sbatch refuses, on one line, without what the site says to everybody."""
    lines = [" ".join(line.split()) for line in (answer.error or answer.out).splitlines() if line.strip()]
    return " ".join([line for line in lines if line.startswith("sbatch:")] or lines) or answer.reason


def is_full(words: str) -> bool:
    """Whether fewer jobs might be taken, or the same ones later."""
    return re.search(f"{BUSY}|{TOO_MANY}", words) is not None or counts_jobs(words)


def advice(words: str) -> str:
    """What to do about a refusal that no waiting ends."""
    if is_unclear(words):
        return (
            "it is unclear which limit, SLURM does not name it: if it may be that of your jobs' number"
            " (squeue --me), call again later, else ask for less (launch.minutes, gpus, cpus, nodes)"
        )
    option = option_for(words)
    return f"change {option}" if option else ""


@contextmanager
def alone(folder: Path) -> Iterator[IO[str]]:
    """Hold the sbatch lock; a child that the open file is handed to holds it too, for as long as it lives."""
    path, give_up = folder / LOCK_FILE, time.monotonic() + ORPHAN_SECONDS
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        while try_lock(file.fileno()) is False:
            if time.monotonic() > give_up:
                raise HeldError(f"an earlier sbatch for {folder} is still under way; try again later")
            time.sleep(0.2)
        yield file
