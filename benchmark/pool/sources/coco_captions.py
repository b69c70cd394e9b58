"""MS-COCO, five captions and more an image: to train on; for retrieval Karpathy's test split or val2017."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.options import LATER_OPTION, NOT_IDENTITY, check_option, require
from benchmark.pool.samples import PoolError
from benchmark.pool.source import PairSet, Source, data_folder
from benchmark.pool.sources import _captioned as captioned
from benchmark.pool.storage.annotations import Captioned, from_coco, from_karpathy
from benchmark.pool.storage.filelist import AnnotationFormat
from benchmark.pool.storage.format import CAPTIONS
from benchmark.pool.storage.shards import ShardPool

logger = logging.getLogger(__name__)

SIZES = {"karpathy-test": 5_000, "val2017": 5_000}
"""Images of each split that is measured on."""
TRAINING = {"train2017": 118_287, "karpathy-train": 113_287}
"""Images of each split to train on; Karpathy's with the rest of val2014 (``restval``), as is usual."""
KARPATHY = ["dataset_coco.json", "coco_test_karpathy.json"]


@dataclass(frozen=True, kw_only=True)
class CocoCaptions(Source):
    """COCO: photographs with about five captions each."""

    root: str = field(default="", metadata=NOT_IDENTITY)
    """The folder that holds images and annotations; "" is ``$SCAN_BENCH_DATA/coco_captions``."""
    split: str = "karpathy-test"
    """For retrieval ``karpathy-test``: 5,000 images of val2014, which papers mean by "COCO 5K"; or ``val2017``:
    5,000. To train on ``train2017`` or ``karpathy-train``."""
    captions_per_image: int | None = None
    """For retrieval the first so many of each image; None takes all, 25,010 of ``karpathy-test``, as
    clip_benchmark does."""
    captions: str = field(default="random", metadata=LATER_OPTION)
    """In training one of an image's captions a visit (``random``), the ``first``, or ``all``, each a sample."""

    def __post_init__(self) -> None:
        check_option("split", self.split, (*SIZES, *TRAINING))
        check_option("captions", self.captions, CAPTIONS)
        most = self.captions_per_image
        require(most is None or most >= 1, "captions_per_image", "at least 1", most)

    @property
    def label(self) -> str:
        if self.split in TRAINING:
            return f"coco_captions-{self.split}-{self.captions}_captions"
        first = "" if self.captions_per_image is None else f"-first{self.captions_per_image}"
        return f"coco_captions-{self.split}-5k{first}"

    def expected_samples(self) -> int | None:
        return None if self.captions == "all" else TRAINING.get(self.split)

    def training_pool(self) -> ShardPool:
        """Of ``train2017`` and ``karpathy-train``; images that are not there are counted and left out."""
        path, form = self._to_train()
        pool = ShardPool.of([str(path.absolute())], form)
        if self.captions != "all" and pool.num_samples != TRAINING[self.split]:
            logger.warning("%s holds %d images, not %d", self.label, pool.num_samples, TRAINING[self.split])
        return pool

    def check_pool(self) -> None:
        self._to_train()

    def _to_train(self) -> tuple[Path, AnnotationFormat]:
        """The annotations, and how they are read. Raises PoolError."""
        if self.split not in TRAINING:
            raise PoolError(f"{self.label} is for retrieval: train on split: {' or split: '.join(TRAINING)}")
        root = data_folder(self.root, "coco_captions")
        is_karpathys = self.split == "karpathy-train"
        names = KARPATHY[:1] if is_karpathys else [f"captions_{self.split}.json"]
        path = captioned.first_file(root, names, self.label, "COCO")
        return path, AnnotationFormat(
            captions=self.captions,
            root=os.path.relpath(root, path.parent),
            split="train+restval" if is_karpathys else "",
            images="" if is_karpathys else self.split,
        )

    def pairs(self) -> PairSet:
        """Raises PoolError unless all images of the split are there."""
        if self.split in TRAINING:
            return super().pairs()
        root = data_folder(self.root, "coco_captions")
        pairs = captioned.pair_set(self.label, root, self._listed(root), self.captions_per_image)
        captioned.check_size(pairs, SIZES[self.split])
        return pairs

    def _listed(self, root: Path) -> list[Captioned]:
        if self.split == "val2017":
            path = captioned.first_file(root, ["captions_val2017.json"], self.label, "COCO")
            return from_coco(path, "val2017")
        path = captioned.first_file(root, KARPATHY, self.label, "COCO")
        if path.name == KARPATHY[0]:
            return from_karpathy(path, "test", lambda folder, name: f"{folder}/{name}")
        return from_coco(path, "val2014")
