"""ImageNet-A: 7,500 photographs of 200 classes of ImageNet that a ResNet-50 gets wrong; ``<wnid>/*``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.pool.sources import _published as published
from benchmark.pool.sources._shifted import ShiftedImageNet


@dataclass(frozen=True, kw_only=True)
class ImageNetA(ShiftedImageNet):
    """ImageNet-A, a test set: 7,500 hard photographs of 200 of ImageNet's classes."""

    data_set = "imagenet_a"
    published_as = "ImageNet-A"
    num_images = 7_500

    def _wnids(self) -> Sequence[str]:
        return published.wnids_of("imagenet_a")
