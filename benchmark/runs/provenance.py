"""Where a number or a feature comes from: the code's commit, versions of packages, the device."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.runs import snapshot

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "torchvision", "open_clip_torch", "timm", "scikit-learn", "numpy")


def versions() -> dict[str, str]:
    """Of Python and the packages that numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def device_name(device: torch.device) -> str:
    """The GPU's model, or the CPU's with the number of threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        models = []
    name = models[0].split(":", 1)[1].strip() if models else platform.processor() or platform.machine()
    return f"{name} ({torch.get_num_threads()} threads)"


def facts(started: str, device: torch.device) -> dict[str, Any]:
    """Code, versions, device and times of what started at ``started`` and ends now: keys of a record."""
    return {
        "code": snapshot.facts(),
        "versions": versions(),
        "device": device_name(device),
        "started": started,
        "finished": now(),
    }


def now() -> str:
    """The time with its zone, as records have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
