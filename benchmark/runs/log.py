"""``log.jsonl`` and the boards: a line a logged step and an epoch, without repeats after a restart."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmark.config.run import TENSORBOARD
from benchmark.runs.boards import BOARDS, Board
from benchmark.runs.folder import RunFolder
from benchmark.runs.record import finite

logger = logging.getLogger(__name__)
CLOSE_SECONDS = 5.0
"""How long a board may take to close: TensorBoard's waits for locks that an interrupt may have left taken."""
SERVICE_SECONDS = 60.0
"""The same for one that has yet to send to a service what it was told."""


class LogError(ValueError):
    """A log that is not what its checkpoint says; the message names the file."""


class RunLog:
    """Appends to a run's log. What ``settle`` says goes into checkpoints; a restart cuts the log back to it."""

    def __init__(self, folder: RunFolder, boards: Sequence[str] = (TENSORBOARD,)) -> None:
        self.path = folder.log
        self._folder, self._names = folder, boards
        self._boards: dict[str, Board] = {}

    def open(self, position: int, step: int) -> None:
        """Start writing at ``position``, where optimiser step ``step`` comes next.

        Raises LogError if lines are missing that had been written before.
        """
        with self.path.open("ab") as file:
            if file.tell() < position:
                raise LogError(
                    f"{self.path}: lines are lost: it holds {file.tell()} bytes, and {position} when its run's"
                    " checkpoint was written. Bring the file back, or remove the run's folder to train anew"
                )
            file.truncate(position)
        for name in self._names:
            if board := self._ask(name, lambda name=name: BOARDS[name](self._folder, step)):  # type: ignore[misc]
                self._boards[name] = board

    def settle(self) -> int:
        """Bytes of the log, which are on disk when this returns: no power cut may leave it behind a checkpoint."""
        with self.path.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def write(self, line: dict[str, Any], step: int) -> None:
        """Append one line; numbers also go to the boards. A value that is not finite is written as null."""
        safe = {key: finite(value) if isinstance(value, float) else value for key, value in line.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(safe, allow_nan=False) + "\n")
        except OSError as error:  # the system's message does not say which file
            raise OSError(
                error.errno, f"{error.strerror}: make room and start the run again", str(self.path)
            ) from error
        numbers = {key: value for key, value in line.items() if isinstance(value, int | float)}
        scalars = {f"{line['kind']}/{key}": v for key, v in numbers.items() if key not in ("epoch", "step")}
        for name, board in list(self._boards.items()):
            self._ask(name, lambda board=board: board.add(scalars, step))  # type: ignore[misc]

    def close(self) -> None:
        threads = {}
        for name, board in self._boards.items():
            threads[name] = threading.Thread(target=self._ask, args=(name, board.close), daemon=True)
            threads[name].start()
        self._boards = {}
        begun = time.monotonic()
        for name, thread in threads.items():
            limit = CLOSE_SECONDS if name == TENSORBOARD else SERVICE_SECONDS
            thread.join(max(0.0, begun + limit - time.monotonic()))

    def _ask(self, name: str, call: Callable[[], Any]) -> Any:
        """What a board answers. One that fails, as a service may at any time, is left alone: the run goes on."""
        try:
            return call()
        except Exception as error:
            self._boards.pop(name, None)
            logger.warning("%s: %s: %s; the run goes on without it", name, type(error).__name__, error)
            return None


def last_line(path: Path) -> dict[str, Any] | None:
    """The last whole line of a run's log, or None; reads only the end of the file."""
    lines = last_lines(path, 4096)
    return lines[-1] if lines else None


def last_lines(path: Path, num_bytes: int = 8192) -> list[dict[str, Any]]:
    """The whole lines among a log's last bytes, oldest first; what cannot be read is passed over."""
    found = []
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - num_bytes))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            content = json.loads(line)
        except ValueError:  # the first may be half a line
            continue
        if isinstance(content, dict):
            found.append(content)
    return found
