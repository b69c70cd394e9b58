"""What loader workers read ahead is worked out before a run starts, and refused where a machine has no room."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from tiny import TINY_CLIP, TINY_MOCO, clip_grid, moco_grid

from benchmark import sweep
from benchmark.config.launch import LaunchConfig
from benchmark.config.run import Choice, TrainConfig
from benchmark.job import process
from benchmark.models.frameworks import example_bytes, make_objective
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.pool.samples import Sample
from benchmark.training.order import ahead_bytes

WIDE = {"tiny": {**TINY_CLIP["tiny"], "vision_cfg": {**TINY_CLIP["tiny"]["vision_cfg"], "image_size": [16, 24]}}}


@pytest.mark.parametrize(
    ("framework", "model"),
    [("clip", TINY_CLIP), ("clip", WIDE), ("moco", TINY_MOCO)],
    ids=["clip", "oblong", "moco"],
)
def test_an_example_takes_the_bytes_that_its_transform_makes(framework: str, model: dict[str, Any]) -> None:
    choice = Choice(name="tiny", options=model["tiny"])
    made = make_objective(framework, choice, 0).transform(Sample(Image.new("RGB", (30, 20)), "words"))
    assert example_bytes(framework, choice) == sum(tensor.nbytes for tensor in made)


def test_published_models_are_known_without_building_them() -> None:
    assert example_bytes("clip", Choice(name="ViT-B-16")) == 3 * 224 * 224 + 8 * 77
    assert example_bytes("clip", Choice(name="ViT-L-14-336")) == 3 * 336 * 336 + 8 * 77


def test_batches_of_all_ranks_of_a_machine_count() -> None:
    train = TrainConfig(epochs=1, batch_size=8192, lr=1.0, num_workers=8)
    two_machines = LaunchConfig(nodes=2, gpus=8)
    views = 2 * 3 * 224 * 224 * 4
    assert ahead_bytes(train, two_machines, 1.0, views) == 4096 * 8 * 4 * views == 157_840_048_128
    assert ahead_bytes(train, two_machines, 2.5, views) == 2.5 * 157_840_048_128
    alone = TrainConfig(epochs=1, batch_size=8192, lr=1.0)
    assert ahead_bytes(alone, two_machines, 1.0, views) == 0


@pytest.mark.parametrize(("memory", "told"), [(None, "its 64 GB, which is assumed"), (70, "its 70 GB: lower")])
def test_more_than_half_of_a_machine_is_refused_at_the_desk(
    planned: Callable[..., list[PlannedRun]], memory: int | None, told: str
) -> None:
    def grid(**train: int) -> dict[str, Any]:
        pool = {"shapes": {"num_samples": 8192}}
        large = {"tiny": {**TINY_MOCO["tiny"], "image_size": 224, "patch_size": 16}}
        changes = {"batch_size": 4096, "num_workers": 8, **train}
        return moco_grid(model=large, pool=pool, train=changes, launch={"gpus": 8, "memory_gb": memory})

    with pytest.raises(ConfigError, match=rf"grid\[0\]\.train: moco-tiny-.*up to 39\.5 GB ahead.*{told}") as error:
        planned(grid())
    assert "8 ranks x 8 num_workers x 4 prefetch" in str(error.value)
    assert len(planned(grid(num_workers=2, prefetch=1))) == 1


def test_how_far_workers_read_ahead_is_no_part_of_a_runs_name(planned: Callable[..., list[PlannedRun]]) -> None:
    (plain,), (ahead,) = planned(clip_grid()), planned(clip_grid(train={"prefetch": 2}), results="other")
    assert plain.config.name == ahead.config.name
    with pytest.raises(ValueError, match="prefetch must be at least 1, got 0"):
        planned(clip_grid(train={"prefetch": 0}))


def test_a_machine_without_the_room_ends_the_run_before_a_worker_can_die(
    planned: Callable[..., list[PlannedRun]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(clip_grid(train={"num_workers": 2}))
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=1, f_frsize=4096))
    with pytest.raises(
        ValueError, match=r"/dev/shm has 0\.0 GB free, .* lower train\.num_workers or train\.prefetch"
    ):
        process.run(run.folder)
    assert run.folder.error.exists()


def test_a_dry_run_tells_what_is_read_ahead(
    write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    large = {"tiny": {**TINY_MOCO["tiny"], "image_size": 224, "patch_size": 16}}
    path = write_sweep(moco_grid(model=large, train={"num_workers": 8}, launch={"ranks": 2}))
    results = ["--results", str(path.parent / "results"), "--dry-run"]
    assert sweep.main([str(path), *results]) == 0
    assert "shared memory: loader workers read up to 0.2 GB ahead on a machine" in capsys.readouterr().out
