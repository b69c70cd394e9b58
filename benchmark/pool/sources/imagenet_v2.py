"""ImageNet-V2: 10,000 new photographs of ImageNet's 1,000 classes, in folders ``0`` to ``999`` or ``<wnid>``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.options import check_option
from benchmark.pool.source import data_folder
from benchmark.pool.sources import _published as published
from benchmark.pool.sources._shifted import ShiftedImageNet
from benchmark.pool.storage.imagefolder import FolderPool

VARIANTS = {
    "matched-frequency": "imagenetv2-matched-frequency-format-val",
    "threshold-0.7": "imagenetv2-threshold0.7-format-val",
    "top-images": "imagenetv2-top-images-format-val",
}
"""Name -> the archive's own folder."""


@dataclass(frozen=True, kw_only=True)
class ImageNetV2(ShiftedImageNet):
    """ImageNet-V2, a test set: 10,000 new photographs of ImageNet's 1,000 classes."""

    data_set = "imagenet_v2"
    published_as = "ImageNet-V2"
    num_images = 10_000

    variant: str = "matched-frequency"
    """How the photographs were chosen; papers mean ``matched-frequency``."""

    def __post_init__(self) -> None:
        check_option("variant", self.variant, tuple(VARIANTS))

    @property
    def label(self) -> str:
        return self.data_set if self.variant == "matched-frequency" else f"{self.data_set}-{self.variant}"

    def _folders(self) -> Sequence[Path]:
        """The archive's folder, or clip_benchmark's; else the class folders without one."""
        root = data_folder(self.root, self.data_set)
        inside = root / VARIANTS[self.variant], root / f"ImageNetV2-{self.variant}"
        return (*inside, root) if self.variant == "matched-frequency" or self.root else inside

    def _labels(self, pool: FolderPool) -> tuple[Sequence[str], np.ndarray]:
        wnids = published.wnids()
        if not all(name.isdigit() for name in pool.classes):
            return super()._labels(pool)
        self._check_classes(pool, [str(label) for label in range(len(wnids))])
        # sorted as text, folder 10 stands before folder 2: the label is the number
        label_of_folder = np.array([int(name) for name in pool.classes], dtype=np.int64)
        return wnids, label_of_folder[pool.labels()]
