"""Ranks for tests: forked processes that meet through a file, with a limit on their time."""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as td
from patience import patience

from benchmark.training import trainer

SECONDS = 30.0


def on_ranks(world: int, work: Callable[[int], Any], seconds: float = SECONDS) -> list[Any]:
    """What ``work(rank)`` returns on each rank; in its place a RuntimeError if it raised, None if it was killed.

    Fails if a rank is still there after ``seconds``.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        children = [_fork(folder, rank, world, work) for rank in range(world)]
        late = _wait(children, time.monotonic() + patience(seconds))
        assert not late, f"ranks {late} were still working after {seconds} s"
        files = [folder / f"{rank}.pickle" for rank in range(world)]
        return [pickle.loads(f.read_bytes()) if f.exists() else None for f in files]  # noqa: S301 (our own)


def _fork(folder: Path, rank: int, world: int, work: Callable[[int], Any]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        result = _joined(folder, rank, world, work)
        temporary = folder / f"{rank}.tmp"
        temporary.write_bytes(pickle.dumps(result))
        temporary.rename(folder / f"{rank}.pickle")
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _joined(folder: Path, rank: int, world: int, work: Callable[[int], Any]) -> Any:
    if world > 1:
        # long enough for no rank to give up on a slow one, short of the limit on the whole
        td.init_process_group("gloo", f"file://{folder}/meet", timedelta(seconds=patience(20)), world, rank)
    try:
        return work(rank)
    except Exception as error:
        return RuntimeError(f"{type(error).__name__}: {error}")


def _wait(children: list[int], until: float) -> list[int]:
    """Ranks that had to be ended."""
    waiting = dict(enumerate(children))
    while waiting and time.monotonic() < until:
        for rank, child in list(waiting.items()):
            if os.waitpid(child, os.WNOHANG)[0]:
                del waiting[rank]
        time.sleep(0.01)
    for child in waiting.values():
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return list(waiting)


def die_at(step: int) -> None:
    """Let this process save before its n-th step, counted from 0, and be killed there."""
    original, calls = trainer.Trainer._step, iter(range(10**6))

    def deadly(self: trainer.Trainer, *arguments: Any) -> None:
        if next(calls) == step:
            self._save()
            self.checkpoints.wait()
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, *arguments)

    trainer.Trainer._step = deadly  # type: ignore[method-assign]
