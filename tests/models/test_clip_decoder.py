"""torchvision in Pillow's place: the same crops of the same pictures, whatever the file is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import clip_grid, moco_grid

from benchmark.job import process
from benchmark.models.clip.transform import ClipTransform
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.pool.cache import CachedPool
from benchmark.pool.samples import Pixels, Pool, Sample
from benchmark.runs.record import read_record
from benchmark.training.loader import Loader


class Pictures(Pool):
    """Smooth pictures of several sizes, which have no bytes."""

    fingerprint = "pictures"

    def __init__(self, num_samples: int) -> None:
        self.num_samples, self.reads = num_samples, 0

    def read(self, sample_id: int) -> Sample:
        self.reads += 1
        return Sample(picture(sample_id, (40 + sample_id, 60 - sample_id)), f"number {sample_id}")


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)


def batches(pool: Pool, decoder: str) -> list[list[torch.Tensor]]:
    """Ids and tensors of two epochs."""
    loader = Loader(pool, ClipTransform((24, 32), 16), batch_size=4, seed=0, decoder=decoder)
    keep = np.ones(pool.num_samples, dtype=bool)
    return [[b.ids, *b.tensors] for epoch in range(2) for b in loader.epoch(epoch, keep)[1]]


@pytest.mark.parametrize("size", [(341, 256), (31, 200), (16, 12)], ids=["smaller", "long", "larger"])
def test_the_crop_is_pillows_and_its_values_are_off_by_rounding_alone(size: tuple[int, int]) -> None:
    image, transform = picture(0, size), ClipTransform((24, 32), 16)
    for seed in range(8):
        torch.manual_seed(seed)
        wanted, _ = transform(Sample(image, ""))
        torch.manual_seed(seed)
        found, _ = transform(Pixels(np.asarray(image), ""))
        assert (found.dtype, found.shape, found.is_contiguous()) == (torch.uint8, (24, 32, 3), True)
        assert (found.int() - wanted.int()).abs().max() <= 2
        assert (found != wanted).float().mean() < 0.1


def test_pictures_without_bytes_are_taken_as_they_are_and_kept_in_memory_alike() -> None:
    pool = Pictures(8)
    wanted = batches(pool, "torchvision")
    pillow = batches(Pictures(8), "pillow")
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[2], b[2]) for a, b in zip(wanted, pillow, strict=True))
    assert all((a[1].int() - b[1].int()).abs().max() <= 2 for a, b in zip(wanted, pillow, strict=True))
    pool.reads = 0
    cached = batches(CachedPool(pool, 10**6), "torchvision")
    assert pool.reads == 8
    assert all(torch.equal(a, b) for x, y in zip(cached, wanted, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.slow
def test_a_run_with_torchvision_has_a_name_and_weights_of_its_own(
    planned: Callable[..., list[PlannedRun]], tmp_path: Path
) -> None:
    def ran(**train: Any) -> tuple[str, Any]:
        (run,) = planned(clip_grid(train={"epochs": 1, **train}), results=train.get("decoder", "none"))
        assert process.run(run.folder) == "done"
        return run.config.name, read_record(run.folder.record)["weights"]

    default, same, other = ran(), ran(decoder="pillow"), ran(decoder="torchvision")
    assert default == same
    assert other[0] != default[0]
    assert other[1] != default[1]


def test_moco_with_torchvision_is_one_clear_error(planned: Callable[..., list[PlannedRun]]) -> None:
    with pytest.raises(ConfigError, match=r"grid\[0\]\.train\.decoder: MoCo v3's views are made of Pillow's"):
        planned(moco_grid(train={"decoder": "torchvision"}))
    with pytest.raises(ConfigError, match=r"decoder: unknown value 'torchvison'; did you mean 'torchvision'\?"):
        planned(clip_grid(train={"decoder": "torchvison"}))
