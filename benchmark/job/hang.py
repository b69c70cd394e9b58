"""A rank that hangs: what every rank is at goes to the log, and the job back into the queue."""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from benchmark import dist, signals
from benchmark.job import requeue
from benchmark.runs import attempts
from benchmark.runs.folder import RunFolder
from benchmark.training import pulse

POLL_SECONDS = 2.0
LAST_WORDS_SECONDS = 10.0
"""How long rank 0 leaves the others, whose watch may look a little later: a job put back ends them at once."""
OTHERS_SECONDS = 30.0
"""How long the other ranks leave it to rank 0, which may be the one that hangs, to end the run."""
logger = logging.getLogger(__name__)


@contextmanager
def watched(folder: RunFolder, minutes: float) -> Iterator[None]:
    """End this process if no step of training ends for ``minutes``; 0 waits for ever.

    All ranks see it at about the same time, since each waits for the one that hangs.
    """
    if not minutes:
        yield
        return
    done = threading.Event()
    threading.Thread(target=_watch, args=(folder, minutes, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _watch(folder: RunFolder, minutes: float, done: threading.Event) -> None:
    while not done.wait(min(POLL_SECONDS, 10 * minutes)):
        if pulse.seconds() <= 60 * minutes:
            continue
        rank = dist.rank()
        logger.critical(
            "rank %d: no step has ended for %g minutes (launch.hang_minutes); it is at:", rank, minutes
        )
        faulthandler.dump_traceback(2)
        if dist.world() > 1 and done.wait(OTHERS_SECONDS if rank else LAST_WORDS_SECONDS):
            return
        attempts.close(folder, f"stopped by launch.hang_minutes: no step had ended for {minutes:g} minutes")
        try:
            requeue.leave(folder, signals.ANNOUNCED)
        except requeue.NoProgressError:
            logger.exception("not queued again")
        os._exit(requeue.STOPPED)
