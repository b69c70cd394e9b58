"""A live cluster for each file of tests."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from cluster import OVER_MEMORY, cluster, end_jobs, why_not


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """SLURM's clients find the cluster through the environment."""
    with _live() as environment:
        yield environment


@pytest.fixture(scope="module")
def harsh_slurm() -> Iterator[dict[str, str]]:
    """One that gives up a silent node after ten seconds, kills what takes too much memory, and queues no job again
    that does not ask for it."""
    with _live(["SlurmdTimeout=10", "KillWait=10", "JobRequeue=0", OVER_MEMORY]) as environment:
        yield environment


@pytest.fixture
def no_jobs_left(harsh_slurm: dict[str, str]) -> Iterator[None]:
    """A test that fails leaves no job that would keep the next one waiting."""
    yield
    end_jobs(harsh_slurm)


@contextmanager
def _live(extra: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    if reason := why_not():
        if os.environ.get("CI"):
            pytest.fail(f"CI must test on a real SLURM: {reason}")
        pytest.skip(reason)
    with cluster(extra) as environment:
        before = os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = environment["SLURM_CONF"]
        yield environment
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before
