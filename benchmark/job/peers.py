"""A rank that fails ends the others: no collective waits half an hour for one that is gone."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from benchmark import dist
from benchmark.runs.errors import has_new_error
from benchmark.runs.folder import RunFolder
from benchmark.signals import Stopped

POLL_SECONDS = 2.0
GRACE_SECONDS = 10.0
"""For ranks to end by themselves, with their own words in the log."""
FAILED = 71
"""Exit code of a rank that ends because another one failed."""
logger = logging.getLogger(__name__)


@contextmanager
def watched(folder: RunFolder) -> Iterator[None]:
    """End this process hard soon after any rank has left an error in ``folder``, whatever it waits for then.

    A rank that dies without leaving an error is srun's affair (``--kill-on-bad-exit``), or torchrun's.
    """
    if dist.world() == 1:
        yield
        return
    done = threading.Event()
    threading.Thread(target=_watch, args=(folder, done), daemon=True).start()
    try:
        yield
    except Stopped:
        done.set()
        raise
    done.set()  # not after an error: leaving the process group, too, may wait for a rank that is gone


def _watch(folder: RunFolder, done: threading.Event) -> None:
    while not done.wait(POLL_SECONDS):
        try:
            is_over = has_new_error(folder)
        except OSError:  # a file server that is away for a moment
            continue
        if is_over and not done.wait(GRACE_SECONDS):
            logger.critical("rank %d ends: see %s", dist.rank(), folder.error)
            os._exit(FAILED)
