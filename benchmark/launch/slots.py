"""Room for runs side by side on this machine: its GPUs, or its cores for runs that ask for none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.runs.lease import HeldError, lease


def machine_gpus() -> list[str]:
    """This machine's GPUs as CUDA names them; those of CUDA_VISIBLE_DEVICES where that is set."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [word.strip() for word in given.split(",") if word.strip() not in ("", "-1")]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


@dataclass
class Slots:
    """Who runs where. GPUs go to one run at a time, also between sweeps of one user; cores can be overbooked."""

    limit: int | None
    """Most runs at a time; None lets cores and GPUs decide."""
    gpus: list[str] = field(default_factory=lambda: machine_gpus())
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    _held: dict[str, ExitStack] = field(default_factory=dict)
    _cores_taken: dict[str, int] = field(default_factory=dict)

    def check(self, runs: Sequence[PlannedRun]) -> None:
        """Raise ConfigError for a run that this machine could never take."""
        for run in runs:
            asked = run.config.launch.gpus
            if asked > len(self.gpus):
                raise ConfigError(
                    f"{run.config.name}: asks for {asked} GPUs and this machine has {len(self.gpus)};"
                    " say launch.gpus=N, or launch.gpus=0 for its cores"
                )

    def take(self, run: PlannedRun) -> list[str] | None:
        """The GPUs the run gets (none for a run on cores), or None if there is no room for it now."""
        launch, name = run.config.launch, run.config.name
        if self.limit is not None and len(self._held) >= self.limit:
            return None
        cores = 0 if launch.gpus else launch.cpus * launch.ranks_per_node
        taken = sum(self._cores_taken.values())
        if self.limit is None and cores and taken and taken + cores > self.cores:
            return None
        with ExitStack() as stack:
            gpus = self._free_gpus(launch.gpus, stack)
            if len(gpus) < launch.gpus:
                return None
            self._held[name] = stack.pop_all()
        self._cores_taken[name] = cores
        return gpus

    def free(self, name: str) -> None:
        """The run has ended."""
        self._held.pop(name).close()
        del self._cores_taken[name]

    def _free_gpus(self, count: int, stack: ExitStack) -> list[str]:
        found: list[str] = []
        folder = Path(tempfile.gettempdir()) / f"scan-bench-{os.getuid()}"
        for gpu in self.gpus:
            if len(found) == count:
                break
            try:
                stack.enter_context(lease(folder / f"gpu-{gpu}.lock", wait_seconds=0))
            except HeldError:
                continue
            found.append(gpu)
        return found
