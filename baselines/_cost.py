"""What a static method is about to multiply and how long that takes here, said in the log; and how far it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch

from baselines import _gpu

T = TypeVar("T")
LONG = 1e12
"""Multiply-adds from which on a method says so: ten seconds on two cores."""
EVERY_SECONDS = 60.0
"""From one line of progress to the next."""
logger = logging.getLogger(__name__)


def announce(name: str, multiply_adds: float) -> None:
    """Say in one line of the log how long a method will take; nothing of one that takes seconds."""
    if multiply_adds < LONG:
        return
    device = _gpu.device() or torch.device("cpu")
    minutes, kind = multiply_adds / rate(device) / 60, "GPU" if device.type == "cuda" else "cores"
    said = "%s: %.1e multiply-adds, about %.1f minutes on this machine's %s"
    logger.info(said, name, multiply_adds, minutes, kind)


def rate(device: torch.device) -> float:
    """float32 multiply-adds a second, by a product of 2,048 x 512 x 4,096: the best of three."""
    n, width, m = 2048, 512, 4096
    rows, columns = (np.ones(shape, dtype=np.float32) for shape in ((n, width), (width, m)))
    one, other = (torch.from_numpy(array).to(device) for array in (rows, columns))
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        # the host's methods multiply with numpy, whose threads may be other ones than torch's
        _ = rows @ columns if device.type == "cpu" else (one @ other)[0, 0].item()
        seconds.append(time.perf_counter() - started)
    return n * width * m / min(seconds[1:])  # the first one starts the threads


def steps(what: str, parts: Iterable[T], total: int) -> Iterator[T]:
    """The ``total`` parts, with a line in the log every minute that says how many of them are done."""
    last = time.monotonic()
    for done, part in enumerate(parts):
        if time.monotonic() - last >= EVERY_SECONDS:
            last = time.monotonic()
            logger.info("%s: %d of %d", what, done, total)
        yield part
