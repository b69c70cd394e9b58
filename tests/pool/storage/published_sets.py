"""Small data sets in clip_benchmark's layout."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from shard_files import Entry, encoded, write_tar

CLASSES = ["tabby cat", "dog", "crane", "crane"]


def picture(number: int) -> bytes:
    """Noise of its own, in lossless WebP."""
    pixels = np.random.default_rng(number).integers(0, 256, size=(4, 4, 3)).astype(np.uint8)
    return encoded(Image.fromarray(pixels).resize((20, 20), Image.Resampling.NEAREST), "WEBP", lossless=True)


def array(values: Sequence[float]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values))
    return file.getvalue()


def member(number: int, **beside: bytes) -> list[Entry]:
    """An image and what stands beside it, in the order of webdataset's writer."""
    key = f"s{number:07d}"
    return [
        (f"{key}.{suffix}", content) for suffix, content in sorted({**beside, "webp": picture(number)}.items())
    ]


def write_set(
    home: Path, shards: Sequence[Sequence[Entry]], split: str = "test", kind: str = "", classes: int = 4
) -> Path:
    """The files of a set; without a kind one of classes."""
    for i, entries in enumerate(shards):
        write_tar(home / split / f"{i}.tar", entries)
    (home / split / "nshards.txt").write_text(f"{len(shards)}\n")
    if kind:
        (home / "dataset_type.txt").write_text(f"{kind}\n")
    if kind != "retrieval":
        (home / "classnames.txt").write_text("\n".join((CLASSES * 26)[:classes]) + "\n")
        prompts = "a photo of a {c}.\n{c} in {c} {0.__class__}\n"
        (home / "zeroshot_classification_templates.txt").write_text(prompts)
    return home


def labelled(labels: Sequence[int], first: int = 0) -> list[Entry]:
    return [entry for i, label in enumerate(labels) for entry in member(first + i, cls=str(label).encode())]
