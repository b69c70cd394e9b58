"""Image-caption pairs in a folder: each image with a .txt or .json beside it, as img2dataset's ``files``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.options import LATER_OPTION, NOT_IDENTITY
from benchmark.pool.source import data_folder
from benchmark.pool.sources._pairs import Pairs
from benchmark.pool.storage.filelist import FolderFormat


@dataclass(frozen=True, kw_only=True)
class Files(Pairs):
    """A folder of images and captions, with those below it; a thousand images are a shard."""

    options = ("root", "heldout_root")
    root: str = field(default="", metadata=NOT_IDENTITY)
    """The folder; "" is ``$SCAN_BENCH_DATA/<name>``. Folders of validation and test splits in it are left out."""
    json: str = field(default="", metadata=LATER_OPTION)
    """The field of the JSON that is the caption; "" is the text, else ``caption`` of the JSON."""
    heldout_root: str = field(default="", metadata=NOT_IDENTITY)
    """A folder of pairs for retrieval; images of the same bytes are one image with all their captions."""

    @property
    def label(self) -> str:
        return "-".join([super().label, *([self.json] if self.json else [])])

    @property
    def form(self) -> FolderFormat:
        return FolderFormat(captions=self.captions, json=self.json)

    @property
    def held_out_form(self) -> FolderFormat:
        return FolderFormat(captions="random", json=self.json)

    @property
    def place(self) -> str:
        return str(data_folder(self.root, self.name))

    def found(self) -> tuple[list[str], list[str]]:
        return [_with_slash(self.place)], []

    def found_held_out(self) -> list[str]:
        return [_with_slash(self.heldout_root)] if self.heldout_root else []


def _with_slash(folder: str) -> str:
    """As ``FolderFormat`` names a folder."""
    return f"{os.path.abspath(Path(folder).expanduser())}/"
