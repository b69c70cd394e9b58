"""A live cluster for each file of tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from cluster import cluster, why_not


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """SLURM's clients find the cluster through the environment."""
    if reason := why_not():
        if os.environ.get("CI"):
            pytest.fail(f"CI must test on a real SLURM: {reason}")
        pytest.skip(reason)
    with cluster() as environment:
        before = os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = environment["SLURM_CONF"]
        yield environment
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before
