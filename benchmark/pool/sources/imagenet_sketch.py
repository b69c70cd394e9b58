"""ImageNet-Sketch: 50,889 black and white sketches of ImageNet's 1,000 classes; ``<wnid>/*``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.pool.source import data_folder
from benchmark.pool.sources._shifted import ShiftedImageNet


@dataclass(frozen=True, kw_only=True)
class ImageNetSketch(ShiftedImageNet):
    """ImageNet-Sketch, a test set: 50,889 sketches of ImageNet's 1,000 classes."""

    data_set = "imagenet_sketch"
    published_as = "ImageNet-Sketch"
    num_images = 50_889

    def _folders(self) -> Sequence[Path]:
        root = data_folder(self.root, self.data_set)
        return root, root / "sketch"  # the archive's own folder
