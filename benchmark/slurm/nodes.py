"""What a cluster's nodes and partitions have, as scontrol tells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.slurm.commands import call

UNLIMITED = float("inf")


@dataclass(frozen=True)
class Node:
    """A node, at work or not."""

    name: str
    cores: int
    """As SLURM counts them for jobs: hardware threads, where it has them."""
    gpus: int
    memory_gb: float
    partitions: frozenset[str]
    features: frozenset[str]


@dataclass(frozen=True)
class Partition:
    """Limits of a partition."""

    name: str
    is_default: bool
    minutes: float
    nodes: float
    cores: float
    """A node, as ``memory_gb``."""
    memory_gb: float


def nodes() -> list[Node]:
    """All that SLURM shows this user; [] if it does not answer."""
    found = []
    for facts in _shown("node", "NodeName"):
        cores = int(facts.get("CPUEfctv") or facts.get("CPUTot") or 0)
        partitions, features = (_words(facts.get(key, "")) for key in ("Partitions", "AvailableFeatures"))
        memory = int(facts.get("RealMemory", 0)) / 1024
        found.append(Node(facts["NodeName"], cores, gpus_in(facts.get("Gres", "")), memory, partitions, features))
    return found


def partitions() -> list[Partition]:
    """All that SLURM shows this user; [] if it does not answer."""
    return [
        Partition(
            facts["PartitionName"],
            facts.get("Default") == "YES",
            minutes_of(facts.get("MaxTime", "")),
            _number(facts.get("MaxNodes", "")),
            _number(facts.get("MaxCPUsPerNode", "")),
            _number(facts.get("MaxMemPerNode", "")) / 1024,
        )
        for facts in _shown("partition", "PartitionName")
    ]


def gpus_in(gres: str) -> int:
    """``gpu:a100:4(S:0-1),gpu:v100:2`` is 6."""
    found = re.findall(r"(?:^|,|gres/|gres:)gpu(?::[A-Za-z][^:,()]*)?(?::(\d+))?(?=[,(]|$)", gres)
    return sum(int(count or 1) for count in found)


def minutes_of(time: str) -> float:
    """``1-12:30:00`` is 2190; infinite for what is no time."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+)(?::(\d+))?", time)
    if found is None:
        return UNLIMITED
    days, first, second, third = found.groups()
    hours, minutes = (first, second) if third is not None or days is not None else ("0", first)
    return int(days or 0) * 1440 + int(hours) * 60 + int(minutes)


def _shown(what: str, key: str) -> Sequence[dict[str, str]]:
    """The facts of each, by SLURM's own words; a comment may repeat a word, the first counts."""
    answer = call(["scontrol", "show", what, "-o"])
    lines = [line for line in answer.out.splitlines() if line.startswith(f"{key}=")]
    return [dict(reversed(re.findall(r"(\S+?)=(\S*)", line))) for line in lines] if answer.code == 0 else []


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in text.split(",") if word and word != "(null)")


def _number(text: str) -> float:
    return float(text) if text.isdigit() else UNLIMITED
