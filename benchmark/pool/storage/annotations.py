"""Files of annotations that list images with their captions: Karpathy's splits, and COCO's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from benchmark.pool.samples import PoolError


@dataclass(frozen=True)
class Captioned:
    """An image and its captions, in the order of the file."""

    file: str
    """Path below the data set's folder."""
    captions: Sequence[str]


def from_karpathy(path: Path, split: str, place: Callable[[str, str], str]) -> list[Captioned]:
    """One split of Karpathy's ``dataset_*.json``; ``place`` makes a path of (filepath, filename).

    Raises PoolError, as the other readers do, for a file of another kind.
    """

    def read(node: Any) -> list[Captioned]:
        return [
            Captioned(place(i.get("filepath", ""), i["filename"]), [s["raw"] for s in i["sentences"]])
            for i in node["images"]
            if i["split"] == split
        ]

    return _read_json(path, read)


def from_coco(path: Path, folder: str) -> list[Captioned]:
    """COCO's own format, as torchvision's ``CocoCaptions`` reads it: images by rising id."""

    def read(node: Any) -> list[Captioned]:
        captions: dict[int, list[str]] = {image["id"]: [] for image in node["images"]}
        for annotation in node["annotations"]:
            captions[annotation["image_id"]].append(annotation["caption"])
        names = {image["id"]: image["file_name"] for image in node["images"]}
        return [Captioned(f"{folder}/{PurePosixPath(names[i]).name}", captions[i]) for i in sorted(captions)]

    return _read_json(path, read)


def _read_json(path: Path, read: Callable[[Any], list[Captioned]]) -> list[Captioned]:
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PoolError(f"{path} cannot be read as captions: {type(error).__name__}: {error}") from error
