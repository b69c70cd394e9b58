"""Stand-ins for data that is not there: tar shards and image folders of the same layout, with made-up pictures.

Only what reading and training cost is like the real thing: JPEGs of usual sizes, captions of usual lengths.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.config.run import Choice
from benchmark.files import write_atomic, write_text
from benchmark.pool.storage.tarwriter import Member, write_tar
from benchmark.seeds import generator

SIDES = {"shard": (256, 340), "folder": (375, 500)}
"""Height and width: what img2dataset leaves of the web's pictures, and ImageNet's median."""
PICTURES = 64
"""Pictures that differ; then they repeat, which a decoder does not notice."""
A_SHARD = 1000
CLASSES = 16
HELD_OUT = 512
"""Images of the test split, and pairs for retrieval."""
CAPTIONS = 5
"""Of each held-out image."""
KEPT = ("name", "decode_size", "cache_gb", "cache_folder", "plant")
"""Options of a pool of pairs that do not say where in a file its samples lie."""
VERSION = 1


class StandIns:
    """Files below one folder, written when they are first asked for and kept for the next rehearsal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pool(self, framework: str, choice: Choice, num_samples: int) -> Choice:
        """A training pool in the place of one that is not there: pairs in shards for CLIP, images for MoCo."""
        if framework == "clip":
            own = {"name": choice.name, **{key: choice.options[key] for key in KEPT if key in choice.options}}
            told = {**own, "shards": f"{self._shards(num_samples)}/*.tar", "num_samples": num_samples}
            return Choice(name="webdataset", options=told)
        return self.labelled(choice.name, num_samples)

    def labelled(self, name: str, num_samples: int = CLASSES * 20) -> Choice:
        """Images with labels of a few of ImageNet's classes; a name of its own, since ``imagenet`` is whole."""
        told = {"name": f"{name}-stand-in", "num_samples": num_samples}
        return Choice(name="imagenet", options={"root": str(self._images(num_samples)), **told})

    def pairs(self, name: str) -> Choice:
        """Held-out images with five captions each."""
        told = {"name": name, "shards": f"{self._shards(A_SHARD)}/*.tar", "heldout_captions": "lines"}
        return Choice(name="webdataset", options={**told, "heldout_shards": f"{self._held_out()}/*.tar"})

    def _shards(self, num_samples: int) -> Path:
        folder = self.folder / f"shards-{num_samples}-v{VERSION}"
        pictures = _pictures(*SIDES["shard"]) if not _is_whole(folder) else []
        for start in range(0, num_samples if pictures else 0, A_SHARD):
            ids = range(start, min(start + A_SHARD, num_samples))
            members = [_pair(i, pictures[i % PICTURES], _caption(i)) for i in ids]
            _write_shard(folder / f"{start // A_SHARD:05d}.tar", members)
        return _whole(folder)

    def _held_out(self) -> Path:
        folder = self.folder / f"held_out-v{VERSION}"
        if not _is_whole(folder):
            pictures = _pictures(*SIDES["shard"])
            texts = ["\n".join(_caption(CAPTIONS * i + k) for k in range(CAPTIONS)) for i in range(HELD_OUT)]
            members = [_pair(i, pictures[i % PICTURES], text) for i, text in enumerate(texts)]
            _write_shard(folder / "00000.tar", members)
        return _whole(folder)

    def _images(self, num_samples: int) -> Path:
        root = self.folder / f"images-{num_samples}-v{VERSION}"
        if _is_whole(root):
            return root
        from benchmark.pool.sources import _published as published  # loads frameworks, which planning needs not

        pictures = [root / "pictures" / f"{i}.JPEG" for i in range(PICTURES)]
        for path, data in zip(pictures, _pictures(*SIDES["folder"]), strict=True):
            write_atomic(path, lambda file, data=data: file.write(data))  # type: ignore[misc]
        wnids = published.wnids()[:CLASSES]
        for split, count in (("train", num_samples), ("val", HELD_OUT)):
            for wnid in wnids:
                (root / split / wnid).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                path = root / split / wnids[i % CLASSES] / f"{i:07d}.JPEG"
                path.unlink(missing_ok=True)
                os.link(pictures[i % PICTURES], path)
        return _whole(root)


def _is_whole(folder: Path) -> bool:
    return (folder / "whole").exists()


def _whole(folder: Path) -> Path:
    """The folder, absolute: jobs read it from wherever they work; marked as written to the end."""
    if not _is_whole(folder):
        write_text(folder / "whole", "")
    return folder.absolute()


def _write_shard(path: Path, members: Sequence[tuple[Member, Member]]) -> None:
    write_atomic(path, lambda file: write_tar(file, [member for pair in members for member in pair]))


def _pair(number: int, picture: bytes, text: str) -> tuple[Member, Member]:
    return Member(f"{number:09d}.jpg", picture), Member(f"{number:09d}.txt", text.encode())


def _pictures(height: int, width: int) -> list[bytes]:
    """Fields of colour with edges and some texture: as many bytes as a photograph of that size."""
    rng = generator(0, "stand-ins")
    found = []
    for _ in range(PICTURES):
        noise = (rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (8, 48))
        fields, texture = (Image.fromarray(n).resize((width, height), Image.Resampling.BICUBIC) for n in noise)
        buffer = io.BytesIO()
        Image.blend(fields, texture, 0.2).save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


def _caption(number: int) -> str:
    rng = generator(0, "stand-in caption", number)
    words = ["".join(rng.choice(list("aeioubdklmnrst"), rng.integers(2, 9))) for _ in range(rng.integers(8, 16))]
    return " ".join(words).capitalize() + "."
