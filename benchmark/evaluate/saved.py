"""Training of a task that is under way: what is trained goes to a file, from which another attempt goes on.

The file opens with the SHA-256 of the rest. Its name is a hash of what is trained, on what, from which weights.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmark import dist
from benchmark.evaluate.means import Means
from benchmark.files import write_atomic
from benchmark.pool.samples import digest_of
from benchmark.signals import Stopped

logger = logging.getLogger(__name__)

_MINUTES = 10.0
"""Between two savings, as ``train.checkpoint_minutes``."""


class Saved:
    """``parts``, such as a model and its optimiser, and how many steps of which epoch are behind them.

    All ranks hold the same and call the same; rank 0 writes and reads.
    """

    def __init__(self, means: Means, of: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
        """``of``, as JSON, says what is trained; ``parts`` have ``state_dict`` and ``load_state_dict``."""
        name = digest_of([json.dumps(of, sort_keys=True)])
        self.path = None if means.folder is None else means.folder / f"{name}.pt"
        self.means, self.parts = means, parts
        self.position, self.saved_at = (0, 0), time.monotonic()

    def load(self) -> tuple[int, int]:
        """Put the parts as they were saved last; the epoch and step to go on with, (0, 0) if nothing was saved."""
        state = dist.broadcast(_read(self.path) if self.path is not None and dist.rank() == 0 else None)
        if state is not None:
            for name, part in self.parts.items():
                part.load_state_dict(state["parts"][name])
            self.position = (int(state["epoch"]), int(state["step"]))
            logger.info("%s: going on at epoch %d, step %d", self.path, *self.position)
        return self.position

    def after(self, epoch: int, step: int, asked: int) -> None:
        """A step is done: save if it is time. Saves and raises signals.Stopped if a rank was asked to stop."""
        self.position = (epoch, step + 1)
        if asked or time.monotonic() - self.saved_at > 60 * _MINUTES:
            self.save()
        if asked:
            dist.meet()  # no rank goes before it is whole
            raise Stopped(asked)

    def save(self) -> None:
        """A file that cannot be written costs a warning: then another attempt goes on from the one before."""
        if self.path is None or dist.rank() != 0:
            return
        epoch, step = self.position
        content = io.BytesIO()
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        torch.save({"epoch": epoch, "step": step, "parts": parts}, content)
        digest = hashlib.sha256(content.getbuffer()).hexdigest().encode()
        try:
            write_atomic(self.path, lambda file: file.writelines((digest, content.getbuffer())))
        except OSError as error:
            logger.warning("%s: cannot be written (%s)", self.path, error)
        else:
            self.means.saved()
        self.saved_at = time.monotonic()


def _read(path: Path) -> dict[str, Any] | None:
    """What was saved, on the CPU; None, with a warning for a damaged file, if nothing was."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, rest = content[:64], content[64:]
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        logger.warning("%s: damaged (another SHA-256); training from the start", path)
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(rest), map_location="cpu", weights_only=True)
    return state
