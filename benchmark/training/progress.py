"""Where a run stands, and the record's account of its training."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Progress:
    """Where a run stands: everything a checkpoint holds besides weights, optimiser and pruner."""

    epoch: int = 0
    step: int = 0
    """Next step of the epoch."""
    total_steps: int = 0
    samples_seen: int = 0
    samples_scored: int = 0
    """Samples that went forward without gradient: to be chosen from, or as reference data."""
    epoch_loss: float = 0.0
    """Sum over the epoch's steps of the training loss."""
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    data_seconds: float = 0.0
    pruning_seconds: float = 0.0
    attempts: int = 0
    log_position: int = 0
    by_epoch: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    """Checksums of the files that the run's epochs have left, by name."""
    reference_epoch: int = -1
    """The last epoch whose method was told the loss of its reference data."""
    plan: int | None = None
    """Checksum of what the epoch trains on that is under way; None in checkpoints of older versions."""

    def facts(
        self, *, epochs: int, samples_full: int, data_seconds: float, device: torch.device
    ) -> dict[str, Any]:
        """The record's ``training``; ``samples_full`` is what a run without pruning would have seen."""
        return {
            "epochs": epochs,
            "samples_full": samples_full,
            "samples_seen": self.samples_seen,
            "samples_scored": self.samples_scored,
            "optimizer_steps": self.total_steps,
            "pruning_rate": 1 - self.samples_seen / samples_full,
            "seconds": self.seconds,
            "data_seconds": data_seconds,
            "pruning_seconds": self.pruning_seconds,
            "samples_per_second": self.samples_seen / max(self.seconds, 1e-9),
            "peak_memory_bytes": peak_memory_bytes(device),
            "final_loss": self.by_epoch[-1]["loss"],
            "attempts": self.attempts,
            "by_epoch": self.by_epoch,
        }


def peak_memory_bytes(device: torch.device) -> int:
    """The most that this process has held: on its GPU, without one in the host's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
