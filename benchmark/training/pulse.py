"""Since when this process is at a step of training: for whoever has to tell a rank that hangs from one that works.

It rests between the steps of two epochs, while a checkpoint is taken, and until the first step of the process has
ended: a choice, an index, a compiler or a slow disk may honestly take hours.
"""

from __future__ import annotations

import time

_beats: list[float] = []
"""The clock at the end of the last step, or when the one that runs began after a rest; empty at rest."""


def beat() -> None:
    """A step follows."""
    _beats[:] = [time.monotonic()]


def rest() -> None:
    """What comes now may take any time."""
    _beats.clear()


def seconds() -> float:
    """For which the step at work has run; 0 at rest."""
    last = list(_beats)  # another thread may empty it
    return time.monotonic() - last[0] if last else 0.0
