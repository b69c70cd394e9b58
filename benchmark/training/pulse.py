"""When this process last ended a step of training: for whoever has to tell a rank that hangs from one that works.

It rests outside an epoch's steps, from a checkpoint to the end of the next step, and in the first step of an
epoch: a choice, an index, a compiler or a slow disk may honestly take hours.
"""

from __future__ import annotations

import time

_beats: list[float] = []
"""The clock at the end of the last step; empty at rest."""


def beat() -> None:
    """A step has ended, and another follows."""
    _beats[:] = [time.monotonic()]


def rest() -> None:
    """What comes now may take any time."""
    _beats.clear()


def seconds() -> float:
    """Since the end of the last step; 0 at rest."""
    last = list(_beats)  # another thread may empty it
    return time.monotonic() - last[0] if last else 0.0
