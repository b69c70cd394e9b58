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
from benchmark.slurm.commands import ABSENT, TOO_LONG, Answer, clean_environment

SBATCH_SECONDS = 60.0
"""How long a call may take; by itself sbatch tries for two minutes when SLURM is full."""
PATIENCE_SECONDS = 6.0
"""How long it may try again after it has said that SLURM takes nothing now."""
ORPHAN_SECONDS = 180.0
"""How long an sbatch can live on whose launcher was killed."""
MOST_BYTES = 100_000
LOCK_FILE = f"{SUBMISSIONS_FOLDER}/sbatch.lock"

BUSY = r"sleeping and retrying|queue full"
"""sbatch says this and goes on trying."""
FULL = BUSY + r"|\w*(SubmitJob|MaxJob|GrpJobs)\w*|accounting/QOS policy|Invalid job array specification"
"""Fewer jobs might be taken, or the same ones later."""
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
