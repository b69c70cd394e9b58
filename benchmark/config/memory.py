"""The memory that a job asks of each node, whichever option says it: by the node, by the core or by the GPU."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.config.launch import LaunchConfig

OPTIONS = ("mem", "mem-per-cpu", "mem-per-gpu")
"""Of sbatch; one of them, or ``launch.memory_gb``, is all that it takes."""
MEGABYTES = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


@dataclass(frozen=True)
class Memory:
    """What is asked for, and in which words."""

    gb: float | None
    """Of 1024**3 bytes, a node; None where the cluster decides, infinite for all that a node has."""
    said: str
    """``launch.memory_gb=64``, ``launch.sbatch.mem-per-cpu=2G on 8 cores``; "" where nothing is said."""
    option: str
    """The option to raise."""


def memory_of(launch: LaunchConfig) -> Memory:
    if launch.memory_gb is not None:
        return Memory(launch.memory_gb, f"launch.memory_gb={launch.memory_gb}", "launch.memory_gb")
    cores, gpus = launch.cores_per_node, launch.gpus
    for key, value in launch.sbatch.items():
        name = key.replace("_", "-")
        if name not in OPTIONS:
            continue
        many = {"mem": 1, "mem-per-cpu": cores, "mem-per-gpu": gpus}[name]
        gb = megabytes(value) / 1024 * many or float("inf")  # 0 asks for all
        of = {"mem": "", "mem-per-cpu": f" on {cores} cores", "mem-per-gpu": f" on {gpus} GPUs"}[name]
        option = f"launch.sbatch.{name}"
        return Memory(gb, f"{option}={value}{of}", option)
    return Memory(None, "", "launch.memory_gb")


def megabytes(value: Any) -> float:
    """As sbatch reads a size: megabytes unless K, M, G or T follows. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", str(value).strip().upper())
    if found is None:
        raise ValueError(f"expected a size such as 4000M or 4G, got {value!r}")
    return float(found.group(1)) * MEGABYTES[found.group(2) or "M"]
