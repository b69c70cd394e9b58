"""ImageNet-R: 30,000 renditions (art, cartoons, toys, ...) of 200 classes of ImageNet; ``<wnid>/*``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.pool.sources import _published as published
from benchmark.pool.sources._shifted import ShiftedImageNet


@dataclass(frozen=True, kw_only=True)
class ImageNetR(ShiftedImageNet):
    """ImageNet-R, a test set: 30,000 renditions of 200 of ImageNet's classes."""

    data_set = "imagenet_r"
    published_as = "ImageNet-R"
    num_images = 30_000

    def _wnids(self) -> Sequence[str]:
        return published.wnids_of("imagenet_r")
