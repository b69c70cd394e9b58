"""MS-COCO with five captions and more an image, for retrieval: Karpathy's test split, or the val split of 2017."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmark.options import NOT_IDENTITY, check_option, require
from benchmark.pool.samples import Pool, PoolError
from benchmark.pool.source import PairSet, Source, data_folder
from benchmark.pool.sources import _captioned as captioned

SIZES = {"karpathy-test": 5_000, "val2017": 5_000}
"""Images of each split."""


@dataclass(frozen=True, kw_only=True)
class CocoCaptions(Source):
    """COCO for retrieval: 5,000 photographs with about five captions each."""

    root: str = field(default="", metadata=NOT_IDENTITY)
    """The folder that holds images and annotations; "" is ``$SCAN_BENCH_DATA/coco_captions``."""
    split: str = "karpathy-test"
    """``karpathy-test``: 5,000 images of val2014, which papers mean by "COCO 5K"; or ``val2017``: 5,000."""
    captions_per_image: int | None = None
    """The first so many of each image; None takes all, 25,010 of ``karpathy-test``, as clip_benchmark does."""

    def __post_init__(self) -> None:
        check_option("split", self.split, tuple(SIZES))
        most = self.captions_per_image
        require(most is None or most >= 1, "captions_per_image", "at least 1", most)

    @property
    def label(self) -> str:
        first = "" if self.captions_per_image is None else f"-first{self.captions_per_image}"
        return f"coco_captions-{self.split}-5k{first}"

    def expected_samples(self) -> int | None:
        return None

    def training_pool(self) -> Pool:
        raise PoolError(f"{self.label} is for retrieval: train on COCO as tar shards, with the source webdataset")

    def pairs(self) -> PairSet:
        """Raises PoolError unless all images of the split are there."""
        root = data_folder(self.root, "coco_captions")
        pairs = captioned.pair_set(self.label, root, self._listed(root), self.captions_per_image)
        captioned.check_size(pairs, SIZES[self.split])
        return pairs

    def _listed(self, root: Path) -> list[captioned.Captioned]:
        if self.split == "val2017":
            path = captioned.first_file(root, ["captions_val2017.json"], self.label, "COCO")
            return captioned.from_coco(path, "val2017")
        names = ["dataset_coco.json", "coco_test_karpathy.json"]
        path = captioned.first_file(root, names, self.label, "COCO")
        if path.name == "dataset_coco.json":
            return captioned.from_karpathy(path, "test", lambda folder, name: f"{folder}/{name}")
        return captioned.from_coco(path, "val2014")
