"""What the doctor sends to a node, ``python -m benchmark.doctor.probe FOLDER``: it answers with files in FOLDER.

``alive.json`` first, ``pong`` as soon as it sees ``ping``, ``signal`` when USR2 arrives, ``facts.json`` last.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmark.files import try_lock

ALIVE, PING, PONG, SIGNAL, FACTS, LOCK = "alive.json", "ping", "pong", "signal", "facts.json", "held.lock"
PING_SECONDS, SIGNAL_SECONDS = 60.0, 20.0


def main(folder: Path) -> int:
    """Answer; 0 whatever was found, as long as the answer could be written."""
    is_first = os.environ.get("SLURM_PROCID", "0") == "0"
    if is_first:
        _answer(folder)
    else:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # it goes to all ranks; the first one answers
    facts = _torch_facts(folder)
    if is_first:
        _write(folder / FACTS, {**_node_facts(folder), **facts})
    return 0


def _answer(folder: Path) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGUSR2, lambda number, _frame: heard.append(number))
    _write(folder / ALIVE, {"host": socket.gethostname(), "pid": os.getpid(), "lock": _lock(folder)})
    if _wait(lambda: PING in os.listdir(folder), PING_SECONDS):
        _write(folder / PONG, {})
    if _wait(lambda: bool(heard), SIGNAL_SECONDS):
        _write(folder / SIGNAL, {"signals": heard})


def _lock(folder: Path) -> bool | None:
    """Whether this process gets the lock that the doctor holds, as it should not; None where there are none."""
    with (folder / LOCK).open("a") as file:
        return try_lock(file.fileno())


def _node_facts(folder: Path) -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "python": sys.version.split()[0],
        "cores": len(os.sched_getaffinity(0)),
        "free_bytes": shutil.disk_usage(folder).free,
        "scratch": tempfile.gettempdir(),
        "scratch_free_bytes": shutil.disk_usage(tempfile.gettempdir()).free,
        "user": os.getuid(),
    }


def _torch_facts(folder: Path) -> dict[str, Any]:
    """What torch says of itself and its GPUs, and whether all ranks reach one another; an error as its words."""
    started = time.perf_counter()
    try:
        import torch
        import torch.distributed as td

        facts: dict[str, Any] = {"torch": torch.__version__, "import_seconds": time.perf_counter() - started}
        facts["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        facts["cuda"] = torch.version.cuda
        facts["bf16"] = bool(facts["gpus"]) and torch.cuda.is_bf16_supported()
    except Exception as error:  # a node without the environment, a driver too old
        return {"torch_error": f"{type(error).__name__}: {error}"}
    rank, ranks = int(os.environ.get("SLURM_PROCID", "0")), int(os.environ.get("SLURM_NTASKS", "1"))
    backend = "nccl" if facts["gpus"] else "gloo"
    facts |= {"ranks": ranks, "backend": backend}
    try:
        from datetime import timedelta

        if facts["gpus"]:
            torch.cuda.set_device(rank % len(facts["gpus"]))
        meeting = f"file://{(folder / 'ranks').absolute()}"
        td.init_process_group(backend, meeting, timedelta(seconds=60), rank=rank, world_size=ranks)
        one = torch.ones(1, device="cuda" if facts["gpus"] else "cpu")
        td.all_reduce(one)
        facts["ranks_met"] = int(one.item())
        td.destroy_process_group()
    except Exception as error:
        facts["ranks_error"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return facts


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(content))
    temporary.rename(path)


def _wait(condition: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
