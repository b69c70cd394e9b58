"""Checkpoints that are whole or skipped: a state and the SHA-256 of its file, both put in place by rename.

Two are kept. A file whose digest is missing or wrong is passed over for the one before, with a warning. A
``Writer`` works in a thread beside the training, which waits for a copy on the host alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from benchmark.files import remove_leftovers, write_atomic, write_text
from benchmark.states import to_tensors

KEPT = 2
logger = logging.getLogger(__name__)


class CheckpointError(OSError):
    """A checkpoint that cannot be written; the message says what is safe and what to do."""


class Writer:
    """Checkpoints of one folder, one at a time; it takes part in no exchange between ranks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writing: Future[None] | None = None

    def save(self, state: Mapping[str, Any], step: int) -> None:
        """Copy ``state`` to the host and begin to ``save`` it. Waits for the one before.

        Raises CheckpointError if that one failed.
        """
        self.wait()
        copied = _on_host(to_tensors(state))
        thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing = thread.submit(save, self.folder, copied, step)
        thread.shutdown(wait=False)  # it ends when it has written

    def check(self) -> None:
        """Raise CheckpointError if a write has failed; never waits."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Until the last checkpoint is whole. Raises CheckpointError if it cannot be written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Leave no thread at work behind; beside an error that is on its way, one of the write is logged."""
        writing, self._writing = self._writing, None
        if writing is not None:
            wait([writing])
            if error := writing.exception():
                logger.error("%s", error)


def save(folder: Path, state: Mapping[str, Any], step: int) -> None:
    """Write ``state`` as the checkpoint at ``step`` (optimiser steps since the start) and drop the oldest.

    Raises CheckpointError, for instance on a full disk; the checkpoints before it stay as they were.
    """
    path = folder / f"step-{step:09d}.pt"
    try:
        remove_leftovers(folder)
        digest = hashlib.sha256()
        write_atomic(path, lambda file: torch.save(to_tensors(state), cast(BinaryIO, _Hashed(file, digest))))
        write_text(_digest_file(path), digest.hexdigest())
    except (OSError, RuntimeError) as error:  # torch.save wraps what its file raises
        cause = _os_error(error)
        if cause is None:
            raise
        before = ", ".join(p.name for p in whole_checkpoints(folder)) or "none"
        raise CheckpointError(
            f"{path}: cannot be written: {cause.strerror or cause}; whole checkpoints: {before}."
            " Make room and start the run again: it goes on from there"
        ) from error
    for old in _files(folder)[KEPT:]:
        _digest_file(old).unlink(missing_ok=True)
        old.unlink(missing_ok=True)


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint's state with tensors on the CPU, or None if there is none."""
    for path in _files(folder):
        problem = _problem(path)
        if problem is None:
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
                assert isinstance(state, dict)
                return state
            except Exception as error:  # whatever a damaged file makes torch raise
                problem = f"{type(error).__name__}: {error}"
        logger.warning("%s: %s; falling back to the checkpoint before it", path, problem)
    return None


def whole_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints whose digest is right, newest first."""
    return [path for path in _files(folder) if _problem(path) is None]


class _Hashed:
    """A file that takes what is written to it into a digest; torch writes from the first byte to the last."""

    def __init__(self, file: BinaryIO, digest: Any) -> None:
        self.file, self.digest = file, digest

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _on_host(state: Any) -> Any:
    """A copy that no later step changes, on the CPU, all through nested lists and mappings."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _on_host(value) for key, value in state.items()}
    return [_on_host(value) for value in state] if isinstance(state, list | tuple) else state


def _os_error(error: BaseException | None) -> OSError | None:
    """The error of the file system behind ``error``, or None."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def _problem(path: Path) -> str | None:
    """Why a checkpoint must be passed over, or None."""
    try:
        expected = _digest_file(path).read_bytes()
    except FileNotFoundError:
        return "its digest is missing (it was being written when the run ended)"
    return None if _digest(path).encode() == expected else "its content does not match its digest (it is damaged)"
