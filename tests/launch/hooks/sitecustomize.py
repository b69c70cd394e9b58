"""What a test does to its jobs from within: Python imports this file first where PYTHONPATH names its folder."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path


def _at_step(number: int, folder: Path) -> None:
    while not any(path.read_bytes().count(b"\n") >= number for path in folder.glob("*/log.jsonl")):
        time.sleep(0.02)


def _exit_3() -> None:
    _at_step(5, Path(os.environ["TEST_SWEEP"]))
    os._exit(3)


def _hang() -> None:
    while not any(Path(os.environ["TEST_SWEEP"]).glob("*/checkpoint/step-*.sha256")):
        time.sleep(0.02)
    time.sleep(1)  # in a later step: the first after a checkpoint may take its time
    os.kill(os.getpid(), signal.SIGURG)


def _take_memory() -> None:
    _at_step(5, Path(os.environ["TEST_SWEEP"]))
    taken = []
    while True:
        taken.append(bytearray(os.urandom(1024) * 50_000))
        time.sleep(0.2)


def _save_often() -> None:
    for name, value in (("job.feature_pass.CHUNK", 64), ("evaluate.saved._MINUTES", 0.01)):
        module, _, constant = f"benchmark.{name}".rpartition(".")
        while not hasattr(sys.modules.get(module), constant):
            time.sleep(0.001)
        setattr(sys.modules[module], constant, value)


if "SLURM_PROCID" in os.environ:  # a rank, not what starts it
    if os.environ.get("TEST_HOOK") == "rank 1 exits" and os.environ["SLURM_PROCID"] == "1":
        threading.Thread(target=_exit_3, daemon=True).start()
    first_time = os.environ.get("SLURM_RESTART_COUNT", "0") == "0"
    if os.environ.get("TEST_HOOK") == "rank 1 hangs" and os.environ["SLURM_PROCID"] == "1" and first_time:
        signal.signal(signal.SIGURG, lambda *_: time.sleep(600))  # in the main thread
        threading.Thread(target=_hang, daemon=True).start()
    if os.environ.get("TEST_HOOK") == "takes memory":
        threading.Thread(target=_take_memory, daemon=True).start()
    if os.environ.get("TEST_HOOK") == "saves often":
        threading.Thread(target=_save_often, daemon=True).start()
