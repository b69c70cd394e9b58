"""Samples that turn out unreadable in a run: counted by reason, listed by key, limited in number."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from benchmark import dist
from benchmark.files import write_text
from benchmark.pool.samples import Pool, PoolError
from benchmark.runs.folder import RunFolder
from benchmark.training.loader import Fault


class FaultList:
    """All faults of a run, each sample once, over all ranks after ``share``.

    Raises PoolError if more than ``max_share`` of what lies in the pool's place never became a sample.
    """

    def __init__(self, pool: Pool, max_share: float) -> None:
        self.pool, self.max_share = pool, max_share
        self.by_id: dict[int, tuple[str, str]] = {}
        unused = _unused(pool)
        if unused > max_share * (pool.num_samples + unused):
            raise PoolError(
                f"{unused:,} beside the pool's {pool.num_samples:,} samples lie there and cannot be used, more"
                f" than train.max_skipped {max_share:.2%} ({dict(pool.skipped)}): mend the data (python -m"
                " benchmark.pool inspect says what is meant), or raise train.max_skipped to go without them"
            )

    def add(self, faults: Iterable[Fault]) -> None:
        """Raises PoolError once more than ``max_share`` of the pool is unreadable, naming examples."""
        for fault in faults:
            self.by_id[fault.sample_id] = (fault.reason, fault.message)
        if len(self.by_id) > self.max_share * self.pool.num_samples:
            examples = "; ".join(message for _, message in list(self.by_id.values())[:3])
            raise PoolError(
                f"{len(self.by_id)} of {self.pool.num_samples} samples cannot be read, more than train.max_skipped"
                f" {self.max_share:.2%} ({dict(self.reasons())}): {examples}"
            )

    def share(self) -> None:
        """Bring the ranks' lists together; every rank calls it at the same point."""
        for other in dist.gather_objects(self.by_id):
            self.by_id.update(other)
        self.add(())

    def reasons(self) -> Counter[str]:
        return Counter(reason for reason, _ in self.by_id.values())

    def counts(self) -> dict[str, int]:
        """Skipped by reason: what never became a sample when the pool was indexed, and what failed to decode."""
        return dict(Counter(self.pool.skipped) + self.reasons())

    def write(self, folder: RunFolder) -> None:
        """A line a sample in ``skipped.jsonl``, if there is any."""
        lines = [
            json.dumps({"id": i, "key": self.pool.key(i), "reason": reason, "message": message})
            for i, (reason, message) in sorted(self.by_id.items())
        ]
        if lines:
            write_text(folder.skipped, "\n".join(lines) + "\n")

    def state_dict(self) -> dict[str, Any]:
        return {str(i): list(fault) for i, fault in self.by_id.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.by_id = {int(i): (fault[0], fault[1]) for i, fault in state.items()}


def _unused(pool: Pool) -> int:
    """How many samples the data may hold beside those of the pool; a damaged shard counts as one of mean size."""
    skipped = Counter(pool.skipped)
    damaged = skipped.pop("shard_damaged", 0)
    starts = pool.shard_starts
    return skipped.total() + (round(damaged * pool.num_samples / (len(starts) - 1)) if starts is not None else 0)
