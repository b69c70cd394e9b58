"""Coreset files: what goes in comes out, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import clip_grid

from benchmark import job
from benchmark.coreset import Coreset, CoresetError, load_coreset, save_coreset
from benchmark.plan import PlannedRun


def test_a_coreset_survives_the_disk(tmp_path: Path) -> None:
    keep = np.random.default_rng(0).random(37) < 0.5
    save_coreset(tmp_path / "c.npz", Coreset(keep, "abc", "random", 3, "run-1"))
    found = load_coreset(tmp_path / "c.npz", "abc")
    assert np.array_equal(found.keep, keep)
    assert (found.method, found.seed, found.made_by) == ("random", 3, "run-1")


def test_a_coreset_of_another_pool_is_refused(tmp_path: Path) -> None:
    save_coreset(tmp_path / "c.npz", Coreset(np.ones(3, dtype=bool), "abc", "random", 0, "run"))
    with pytest.raises(CoresetError, match="chosen from pool abc, but this pool is xyz"):
        load_coreset(tmp_path / "c.npz", "xyz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"hello"])
def test_any_other_file_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(CoresetError, match=r"c\.npz: not a coreset file"):
        load_coreset(tmp_path / "c.npz")


def test_a_static_run_leaves_its_coreset_and_a_dynamic_one_does_not(
    planned: Callable[..., list[PlannedRun]],
) -> None:
    grid = clip_grid(pruner=[{"random_subset": {"keep_fraction": 0.5}}, "scan"], train={"epochs": 1})
    static, dynamic = planned(grid)
    for run in (static, dynamic):
        job.run(run.folder)
    assert load_coreset(static.folder / "coreset.npz").keep.sum() == 32
    assert not (dynamic.folder / "coreset.npz").exists()
