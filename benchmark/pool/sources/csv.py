"""Image-caption pairs in a table of paths and captions: CSV as open_clip reads it, JSON lines, Parquet."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from benchmark.options import NOT_IDENTITY, require
from benchmark.pool.sources._pairs import Pairs
from benchmark.pool.storage.names import expand, expand_to_train
from benchmark.pool.storage.tables import SUFFIXES, TableFormat


@dataclass(frozen=True, kw_only=True)
class Csv(Pairs):
    """A table with a row a pair; images are files of their own, a thousand of them a shard."""

    options = ("file", "heldout_file")
    file: str = field(metadata=NOT_IDENTITY)
    """The table, a pattern of several, or several with ``::`` between: ``.csv``, ``.tsv``, ``.jsonl`` or
    ``.parquet``."""
    image: str = "filepath"
    """The column of paths, from ``root`` unless they are absolute."""
    caption: str = "title"
    """The column of captions; "" for images alone."""
    key: str = ""
    """The column that names a sample; "" is the path."""
    separator: str = field(default="", metadata=NOT_IDENTITY)
    """Between the fields of a line; "" is the one with which the heading has the columns."""
    root: str = field(default="", metadata=NOT_IDENTITY)
    """The folder from which paths go; "" is that of the table."""
    heldout_file: str = field(default="", metadata=NOT_IDENTITY)
    """A table of pairs for retrieval; rows of one image are one image with all their captions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.file.endswith(SUFFIXES), "file", f"a name that ends in {', '.join(SUFFIXES)}", self.file)
        require(len(self.separator) <= 1, "separator", "one character", self.separator)

    @property
    def form(self) -> TableFormat:
        return self._form(self.captions)

    @property
    def held_out_form(self) -> TableFormat:
        return self._form("random")

    def _form(self, captions: str) -> TableFormat:
        return TableFormat(
            captions=captions,
            root=os.path.abspath(self.root) if self.root else "",
            image=self.image,
            caption=self.caption,
            key=self.key,
            separator=self.separator,
        )

    @property
    def place(self) -> str:
        return self.file

    def found(self) -> tuple[list[str], list[str]]:
        return expand_to_train(self.place)

    def found_held_out(self) -> list[str]:
        return expand(self.heldout_file) if self.heldout_file else []
