"""Image-caption pairs in tar shards as img2dataset and webdataset write them: CC3M, CC12M, SBU, COCO, your own."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from benchmark.options import LATER_OPTION, NOT_IDENTITY, check_option, require
from benchmark.pool.source import data_folder
from benchmark.pool.sources._pairs import Pairs
from benchmark.pool.storage.names import expand, expand_to_train
from benchmark.pool.storage.tarscan import TarFormat

CAPTIONS = ("one", "lines", "merge")


@dataclass(frozen=True, kw_only=True)
class WebDataset(Pairs):
    """A pool of tar shards; the shards are indexed when first used (``python -m benchmark.pool index``)."""

    options = ("shards", "heldout_shards")
    shards: str = field(default="", metadata=NOT_IDENTITY)
    """Patterns such as ``/data/cc12m/{00000..01242}.tar::/data/sbu/*.tar``; "" is all tar files below
    ``$SCAN_BENCH_DATA/<name>``. Of validation and test splits only those that a pattern says in its own words."""
    json: str = field(default="", metadata=LATER_OPTION)
    """The field of a sample's JSON that is its caption, such as ``caption_llava``; "" is its text, else
    ``caption`` of the JSON."""
    image_suffix: str = field(default="", metadata=LATER_OPTION)
    """Suffixes of images, such as ``image.jpg;webp``; "" is ``jpg;jpeg;png;webp``."""
    caption_suffix: str = field(default="", metadata=LATER_OPTION)
    """That of texts, or with ``json`` of JSON; "" is ``txt``, else ``json``."""
    key: str = field(default="", metadata=LATER_OPTION)
    """The field of the JSON that names a sample, such as DataComp's ``uid``; "" is its name in the shard."""
    heldout_shards: str = field(default="", metadata=NOT_IDENTITY)
    """Patterns of shards for retrieval; none may be among ``shards``."""
    heldout_captions: str = field(default="one", metadata=LATER_OPTION)
    """``one`` a held-out image; ``lines``: a line of its text each, as clip_benchmark writes shards for retrieval;
    ``merge``: samples whose images are the same bytes are one image, as img2dataset leaves COCO's captions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_option("heldout_captions", self.heldout_captions, CAPTIONS)
        for name in ("image_suffix", "caption_suffix"):
            plain = re.fullmatch(r"([A-Za-z0-9_.-]+(;[A-Za-z0-9_.-]+)*)?", value := getattr(self, name))
            require(bool(plain), name, "suffixes without their first dot, such as jpg;webp", value)

    @property
    def label(self) -> str:
        return "-".join([super().label, *([self.json] if self.json else [])])

    @property
    def form(self) -> TarFormat:
        return TarFormat(
            captions=self.captions,
            json=self.json,
            image_suffix=self.image_suffix,
            caption_suffix=self.caption_suffix,
            key=self.key,
        )

    @property
    def held_out_form(self) -> TarFormat:
        return TarFormat(json=self.json, image_suffix=self.image_suffix, caption_suffix=self.caption_suffix)

    @property
    def held_out_captions(self) -> str:
        return self.heldout_captions

    @property
    def place(self) -> str:
        return self.shards or f"{data_folder('', self.name)}/**/*.tar"

    @property
    def how_to_inspect(self) -> str:
        return f"python -m benchmark.pool inspect '{self.place}'"

    def found(self) -> tuple[list[str], list[str]]:
        return expand_to_train(self.place)

    def found_held_out(self) -> list[str]:
        return expand(self.heldout_shards) if self.heldout_shards else []
