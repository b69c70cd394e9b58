"""Image-caption pairs in the rows of Parquet files, as Hugging Face's datasets and hub have them."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmark.options import NOT_IDENTITY
from benchmark.pool.source import data_folder
from benchmark.pool.sources._pairs import Pairs
from benchmark.pool.storage.names import expand, expand_to_train
from benchmark.pool.storage.parquet import ParquetFormat


@dataclass(frozen=True, kw_only=True)
class Parquet(Pairs):
    """Rows with the bytes of an image, or ``{bytes, path}``, and a caption; row groups are the shards."""

    options = ("files", "heldout_files")
    files: str = field(default="", metadata=NOT_IDENTITY)
    """Patterns such as ``data/*.parquet`` or ``hf://datasets/ORG/NAME/data/train-*.parquet``, or a folder; "" is
    all Parquet files below ``$SCAN_BENCH_DATA/<name>``. Of validation and test splits only those that a pattern
    says in its own words."""
    image: str = "image"
    """The column of images; a dot leads into a struct."""
    caption: str = "caption"
    """The column of captions, texts or lists of texts; "" for images alone."""
    key: str = ""
    """The column that names a sample, such as ``uid`` or ``image.path``; "" is the file's name and the row."""
    heldout_files: str = field(default="", metadata=NOT_IDENTITY)
    """Patterns of files for retrieval; rows of one image are one image with all their captions."""

    @property
    def form(self) -> ParquetFormat:
        return ParquetFormat(captions=self.captions, image=self.image, caption=self.caption, key=self.key)

    @property
    def held_out_form(self) -> ParquetFormat:
        return ParquetFormat(captions="random", image=self.image, caption=self.caption)

    @property
    def place(self) -> str:
        return self.files or str(data_folder("", self.name))

    def found(self) -> tuple[list[str], list[str]]:
        return expand_to_train(self.place, ".parquet")

    def found_held_out(self) -> list[str]:
        return expand(self.heldout_files, ".parquet") if self.heldout_files else []
