"""Flickr30k with five captions an image, for retrieval: Karpathy's test split of 1,000 images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmark.options import NOT_IDENTITY, require
from benchmark.pool.samples import Pool, PoolError
from benchmark.pool.source import PairSet, Source, data_folder
from benchmark.pool.sources import _captioned as captioned
from benchmark.pool.storage.annotations import Captioned, from_karpathy

NUM_IMAGES = 1_000
IMAGE_FOLDERS = ("flickr30k-images", "flickr30k_images", "images")
"""Where the images lie, else beside the annotations."""
ANNOTATIONS = ("dataset_flickr30k.json", "flickr30k_test_karpathy.txt", "results_20130124.token")


@dataclass(frozen=True, kw_only=True)
class Flickr30k(Source):
    """Flickr30k for retrieval: 1,000 photographs with five captions each."""

    root: str = field(default="", metadata=NOT_IDENTITY)
    """The folder that holds images and annotations; "" is ``$SCAN_BENCH_DATA/flickr30k``."""
    captions_per_image: int | None = None
    """The first so many of each image; None takes all five."""

    def __post_init__(self) -> None:
        most = self.captions_per_image
        require(most is None or most >= 1, "captions_per_image", "at least 1", most)

    @property
    def label(self) -> str:
        first = "" if self.captions_per_image is None else f"-first{self.captions_per_image}"
        return f"flickr30k-karpathy-test-1k{first}"

    def expected_samples(self) -> int | None:
        return None

    def training_pool(self) -> Pool:
        raise PoolError(f"{self.label} is for retrieval: train on pairs in tar shards, with the source webdataset")

    def pairs(self) -> PairSet:
        """Raises PoolError unless all images of the split are there."""
        root = data_folder(self.root, "flickr30k")
        pairs = captioned.pair_set(self.label, root, self._listed(root), self.captions_per_image)
        captioned.check_size(pairs, NUM_IMAGES)
        return pairs

    def _listed(self, root: Path) -> list[Captioned]:
        path = captioned.first_file(root, ANNOTATIONS, self.label, "Flickr30k")
        folder = next((name for name in IMAGE_FOLDERS if (root / name).is_dir()), ".")
        if path.suffix == ".json":
            return from_karpathy(path, "test", lambda _, name: f"{folder}/{name}")
        if path.suffix == ".txt":
            return captioned.from_csv(path, folder)
        # the token file knows no splits: Flickr30k Entities' test.txt lists the ids of Karpathy's test images
        split = captioned.first_file(root, ["test.txt"], self.label, "Flickr30k")
        return captioned.from_token(path, folder, [f"{name}.jpg" for name in split.read_text().split()])
