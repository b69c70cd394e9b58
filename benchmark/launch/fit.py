"""What a run asks of a cluster compared with what its nodes have: a job that no node can hold waits for ever."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence

from benchmark.config.launch import LaunchConfig
from benchmark.config.memory import memory_of
from benchmark.plan.plan import PlannedRun
from benchmark.slurm import nodes as cluster
from benchmark.slurm.nodes import Node, Partition, gpus_in


def unfit(runs: Sequence[PlannedRun]) -> list[str]:
    """For each shape of request that no part of the cluster can give, what is too much, and of how many runs."""
    shapes: dict[str, list[PlannedRun]] = defaultdict(list)
    for run in runs:
        shapes[json.dumps(vars(run.config.launch), sort_keys=True)].append(run)
    nodes, partitions = cluster.nodes(), cluster.partitions()
    found = []
    for group in shapes.values():
        if problem := hindrance(group[0].config.launch, nodes, partitions):
            more = f" and {len(group) - 1} runs like it" if len(group) > 1 else ""
            found.append(f"{group[0].config.name}{more} would never start: {problem}")
    return found


def hindrance(launch: LaunchConfig, nodes: Sequence[Node], partitions: Sequence[Partition]) -> str:
    """Why no partition that the request names can hold it; "" if one can, or SLURM does not tell."""
    if launch.partition is None:
        asked = [one for one in partitions if one.is_default]
    else:
        asked = [one for one in partitions if one.name in launch.partition.split(",")]
    problems = []
    for partition in asked:
        inside = [node for node in nodes if partition.name in node.partitions]
        problem = _hindrance(launch, inside, partition) if inside else ""
        if not problem:
            return ""
        problems.append(problem)
    return "; ".join(problems)


def _hindrance(launch: LaunchConfig, nodes: Sequence[Node], partition: Partition) -> str:
    where = f"partition {partition.name}"
    if launch.minutes > partition.minutes:
        return f"launch.minutes={launch.minutes}: {where} gives {partition.minutes:g} at most"
    if launch.constraint and re.fullmatch(r"[\w.-]+", launch.constraint):  # what says more is SLURM's affair
        where += f" with {launch.constraint}"
        nodes = [node for node in nodes if launch.constraint in node.features]
        if not nodes:
            return f"launch.constraint={launch.constraint}: no node of partition {partition.name} has it"
    gpus = launch.gpus or gpus_in(str(launch.sbatch.get("gres", "")))
    memory = memory_of(launch)
    gb = 0.0 if memory.gb is None or memory.gb == float("inf") else memory.gb
    most_cores = [min(node.cores, partition.cores) for node in nodes]
    most_gb = [min(node.memory_gb, partition.memory_gb) for node in nodes]
    if gpus > (most := max(node.gpus for node in nodes)):
        return f"launch.gpus={gpus}: a node of {where} has {most} at most"
    if launch.cores_per_node > max(most_cores):
        asked = f"launch.cpus={launch.cpus} for each of {launch.ranks_per_node} ranks"
        return f"{asked}: a node of {where} has {max(most_cores):g} cores at most"
    if gb > max(most_gb):
        return f"{memory.said}: a node of {where} has {max(most_gb):.1f} GB at most"
    together = sum(
        node.gpus >= gpus and cores >= launch.cores_per_node and has >= gb
        for node, cores, has in zip(nodes, most_cores, most_gb, strict=True)
    )
    if launch.nodes > min(together, partition.nodes):
        asked = f"{launch.cores_per_node} cores" + f", {gpus} GPUs" * bool(gpus) + f", {gb:g} GB" * bool(gb)
        return f"launch.nodes={launch.nodes} of {asked}: {where} gives {min(together, partition.nodes):g} at most"
    return ""
