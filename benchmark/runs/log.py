"""``log.jsonl`` and TensorBoard: a line a logged step and an epoch, without repeats after a restart."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.runs.folder import RunFolder
from benchmark.runs.record import finite

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CLOSE_SECONDS = 5.0
"""How long TensorBoard's writer may take to close: it waits for locks that an interrupt may have left taken."""


class LogError(ValueError):
    """A log that is not what its checkpoint says; the message names the file."""


class RunLog:
    """Appends to a run's log. What ``settle`` says goes into checkpoints; a restart cuts the log back to it."""

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.log
        self._board_folder = folder.tensorboard
        self._board: SummaryWriter | None = None

    def open(self, position: int, step: int) -> None:
        """Start writing at ``position``, where optimiser step ``step`` comes next.

        Raises LogError if lines are missing that had been written before.
        """
        from torch.utils.tensorboard import SummaryWriter  # seconds to load, and a status reads logs too

        with self.path.open("ab") as file:
            if file.tell() < position:
                raise LogError(
                    f"{self.path}: lines are lost: it holds {file.tell()} bytes, and {position} when its run's"
                    " checkpoint was written. Bring the file back, or remove the run's folder to train anew"
                )
            file.truncate(position)
        self._board = SummaryWriter(str(self._board_folder), purge_step=step)

    def settle(self) -> int:
        """Bytes of the log, which are on disk when this returns: no power cut may leave it behind a checkpoint."""
        with self.path.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def write(self, line: dict[str, Any], step: int) -> None:
        """Append one line; numbers also go to TensorBoard. A value that is not finite is written as null."""
        assert self._board is not None
        safe = {key: finite(value) if isinstance(value, float) else value for key, value in line.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(safe, allow_nan=False) + "\n")
        except OSError as error:  # the system's message does not say which file
            raise OSError(
                error.errno, f"{error.strerror}: make room and start the run again", str(self.path)
            ) from error
        for key, value in line.items():
            if isinstance(value, int | float) and key not in ("epoch", "step"):
                self._board.add_scalar(f"{line['kind']}/{key}", value, step)

    def close(self) -> None:
        if self._board is not None:
            closing = threading.Thread(target=self._board.close, daemon=True)
            self._board = None
            closing.start()
            closing.join(CLOSE_SECONDS)


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
