"""A job that is rehearsed: it asks itself to stop once, half way, and notes what it takes of its machine.

Only where ``benchmark.rehearsal`` has put ``job/rehearsal.json`` into the run's folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmark import dist
from benchmark.files import write_text
from benchmark.runs.folder import RunFolder
from benchmark.slurm import this_job

HALF = 0.5
SAMPLE_SECONDS = 0.5
SHARED_MEMORY = "/dev/shm"
Report = Callable[[float, str], None]


@contextmanager
def watched(folder: RunFolder, report: Report) -> Iterator[Report]:
    """What is told to ``report`` passes through what is yielded; nothing is done to a run that is no rehearsal."""
    if not folder.rehearsal.exists():
        yield report
        return
    began = time.monotonic()
    usage = _Usage()
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(usage, done), daemon=True)
    sampler.start()

    def told(share: float, text: str) -> None:
        usage.first_seconds = usage.first_seconds or time.monotonic() - began
        report(share, text)
        if HALF <= share < 1 and dist.rank() == 0 and json.loads(folder.rehearsal.read_text())["stop"]:
            write_text(folder.rehearsal, json.dumps({"stop": False}) + "\n")
            os.kill(os.getpid(), signal.SIGUSR2)  # as SLURM does before the time limit

    try:
        yield told
    finally:
        done.set()
        sampler.join()
        usage.look()
        write_text(folder.usage(dist.rank()), json.dumps(usage.merged(folder), indent=1) + "\n")


class _Usage:
    """Peaks of this rank: it and the processes that it started."""

    def __init__(self) -> None:
        self.memory_bytes = self.open_files = self.shared_bytes = 0
        self.first_seconds = 0.0
        """From the start to the first word of progress: imports of the model's code, pool, network, first step."""
        self._shared_before = _shared()[0]

    def look(self) -> None:
        processes = [os.getpid(), *_descendants(os.getpid())]
        self.memory_bytes = max(self.memory_bytes, sum(map(_own_memory, processes)))
        self.open_files = max(self.open_files, *map(_open_files, processes))
        self.shared_bytes = max(self.shared_bytes, _shared()[0] - self._shared_before)

    def merged(self, folder: RunFolder) -> dict[str, Any]:
        """With what earlier attempts took."""
        on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
        gpu = torch.cuda.get_device_properties(torch.cuda.current_device()) if on_gpu else None
        found = {
            "memory_bytes": self.memory_bytes,
            "open_files": self.open_files,
            "shared_bytes": self.shared_bytes,
            "gpu_bytes": torch.cuda.max_memory_reserved() if on_gpu else 0,
            "first_seconds": self.first_seconds,
        }
        try:
            before = json.loads(folder.usage(dist.rank()).read_text())
            found = {key: max(value, before[key]) for key, value in found.items()}
        except FileNotFoundError:
            pass
        return {
            **found,
            "node": this_job.node(),
            "cores": len(os.sched_getaffinity(0)),
            "gpu_total_bytes": gpu.total_memory if gpu is not None else 0,
            "shared_total_bytes": _shared()[1],
            "most_open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        }


def _sample(usage: _Usage, done: threading.Event) -> None:
    while not done.wait(SAMPLE_SECONDS):
        usage.look()


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found


def _own_memory(pid: int) -> int:
    """Bytes of a process, of pages that it shares its part alone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _open_files(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def _shared() -> tuple[int, int]:
    """Bytes of shared memory that are taken on this machine, and that there are."""
    with contextlib.suppress(OSError):
        stat = os.statvfs(SHARED_MEMORY)
        return (stat.f_blocks - stat.f_bfree) * stat.f_frsize, stat.f_blocks * stat.f_frsize
    return 0, 0
