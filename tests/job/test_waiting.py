"""Ranks wait for one another's work before training as long as it takes; in a step they do not."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import torch.distributed as td
from rank_processes import on_ranks
from tiny import clip_grid

from benchmark import dist
from benchmark.job import process
from benchmark.plan.plan import PlannedRun
from benchmark.training import trainer

LIMIT = 0.3
"""Seconds that ranks wait for one another in a step, here."""


def slow(answer: str = "") -> str:
    time.sleep(4 * LIMIT)
    return answer


def limited(seconds: float) -> None:
    """Ranks that are here at the same time wait for one another no longer than this."""
    dist.meet()
    td.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds))  # type: ignore[attr-defined]


def first() -> str:
    with dist.rank_zero_first():
        return slow("both") if dist.rank() == 0 else "both"


def met() -> str:
    if dist.rank() == 0:
        slow()
    dist.meet()
    return "both"


@pytest.mark.parametrize("wait", [first, met, lambda: dist.broadcast(slow("both") if dist.rank() == 0 else "")])
def test_nobody_gives_up_on_a_rank_that_prepares_what_others_wait_for(wait: Callable[[], str]) -> None:
    def work(rank: int) -> str:
        limited(LIMIT)
        return wait()

    assert on_ranks(2, work) == ["both", "both"]


def test_in_a_step_they_do(planned: Callable[..., list[PlannedRun]]) -> None:
    def work(rank: int) -> list[int]:
        limited(LIMIT)
        if rank == 0:
            slow()
        return dist.gather_objects(rank)

    assert all(isinstance(found, RuntimeError) for found in on_ranks(2, work))


def test_a_slow_choice_without_features_holds_up_the_other_ranks_and_ends_none(
    planned: Callable[..., list[PlannedRun]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from baselines.random_subset import RandomSubset

    (run,) = planned(clip_grid(pruner={"random_subset": {"keep_fraction": 0.5}}, train={"epochs": 1}))
    select, share = RandomSubset.select, trainer.Trainer._share_choice

    def slowly(self: RandomSubset, pool: Any) -> np.ndarray:
        slow()
        return select(self, pool)

    def within_the_limit(self: trainer.Trainer) -> None:
        limited(LIMIT)
        share(self)
        limited(20)  # steps of a machine with other work

    monkeypatch.setattr(RandomSubset, "select", slowly)
    monkeypatch.setattr(trainer.Trainer, "_share_choice", within_the_limit)
    assert on_ranks(2, lambda rank: process.run(run.folder)) == ["done", "done"]
