"""The code of docs/own_loop.md runs as it stands, on tiny data."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from rank_processes import on_ranks
from tiny import TINY_CLIP
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from benchmark import dist

PAGE = (Path(__file__).parents[2] / "docs" / "own_loop.md").read_text(encoding="utf-8")
PLAIN, RESUME, OPEN_CLIP = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
EPOCHS = 6


class Pairs(Dataset[tuple[int, Tensor, Tensor]]):
    """64 random images with random texts; remembers what was read."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(64, 3, 16, 16, generator=generator)
        self.texts = torch.randint(1, 1000, (64, 16), generator=generator)
        self.texts[:, -1] = 49407
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[int, Tensor, Tensor]:
        self.read.append(i)
        return i, self.images[i], self.texts[i]


def pair_losses(model: Any, images: Tensor, texts: Tensor) -> Tensor:
    image_features, text_features, scale = model(images, texts)
    logits, labels = scale * image_features @ text_features.T, torch.arange(len(images))
    ce = torch.nn.functional.cross_entropy
    return torch.stack([ce(x, labels, reduction="none") for x in (logits, logits.T)], dim=1)


@pytest.fixture
def names(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """What the page takes from its reader."""

    def make() -> dict[str, Any]:
        torch.manual_seed(0)
        model: Any = open_clip.CLIP(**TINY_CLIP["tiny"])
        if dist.world() > 1:
            model = DistributedDataParallel(model)
        return {
            "torch": torch,
            "dataset": Pairs(),
            "num_epochs": EPOCHS,
            "batch_size": 16 // dist.world(),
            "pair_losses": pair_losses,
            "model": model,
            "optimizer": torch.optim.AdamW(model.parameters(), lr=1e-3),
            "checkpoint_file": tmp_path / "last.pt",
        }

    return make


def check(names: dict[str, Any]) -> None:
    scan = names["scan"]
    kept = [int(scan.plan(epoch).keep.sum()) for epoch in range(scan.epoch)]
    assert scan.epoch == EPOCHS
    assert kept[-1] < 64, "the last epoch was to leave samples out"


def test_the_plain_loop_prunes_and_its_checkpoint_goes_on_with_the_same_masks(
    names: Callable[[], dict[str, Any]],
) -> None:
    here = names()
    exec(PLAIN, here)  # the project's own page
    check(here)
    last, scan = here["dataset"].read[-48:], here["scan"]
    assert scan.plan(EPOCHS - 1).keep[last[-16:]].all(), "a pruned sample was read"
    again = names()
    exec("import torch\nfrom baselines.scan import Scan\nfrom benchmark.pool import PoolView\n" + RESUME, again)
    assert again["state"]["epoch"] == EPOCHS
    for key, value in scan.state_dict().items():
        np.testing.assert_array_equal(again["scan"].state_dict()[key], value, err_msg=key)


def test_the_open_clip_loop_trains_on_open_clips_own_loss(names: Callable[[], dict[str, Any]]) -> None:
    here = names()
    exec(OPEN_CLIP, here)
    check(here)
    with torch.no_grad():
        features = here["model"](here["images"], here["texts"])
        losses = pair_losses(here["model"], here["images"], here["texts"])
    torch.testing.assert_close(losses.mean(), here["clip_loss"](*features))


def test_the_open_clip_loop_on_two_ranks_holds_one_mask(names: Callable[[], dict[str, Any]]) -> None:
    def work(rank: int) -> dict[str, Any]:
        here = names()
        exec(OPEN_CLIP, here)
        check(here)
        return here["scan"].state_dict()  # type: ignore[no-any-return]

    first, second = on_ranks(2, work)
    assert isinstance(first, dict), first
    for key, value in first.items():
        np.testing.assert_array_equal(second[key], value, err_msg=key)
