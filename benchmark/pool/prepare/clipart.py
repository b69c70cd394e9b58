"""The Open Clip Art Library as Debian packs it: pictures from one package, captions from the SVG of the other."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from rich.progress import track

from benchmark.pool.prepare.dataset import Made, Recipe
from benchmark.pool.prepare.packages import Contents, Package
from benchmark.pool.prepare.pictures import boxed_png, content_of, contrast_of, without_margins
from benchmark.pool.prepare.shardfiles import Item
from benchmark.pool.prepare.splits import drawn
from benchmark.pool.prepare.svgmeta import Meta, SvgError, read_meta
from benchmark.pool.sources.clipart import VERSION
from benchmark.pool.storage.decode import SampleFault

HELD_OUT_SHARE = 0.3
"""Of the pictures with a caption of their own: about an eighth of all pictures."""
LEAST_CONTRAST = 64
"""Of held-out pictures, of 255: on many pages nothing is to be seen."""
BOX = 128
"""Largest side of the white squares, in pixels."""
PACKAGE_VERSION = "1:0.18+dfsg-19"
_ARTEFACT = re.compile(r"hash(\(0x[0-9a-f]+\))?|0x[0-9a-f]+|unsorted", re.IGNORECASE)
"""Keywords that a faulty script or the lack of a folder left behind."""

LICENCE = (
    "The pictures of the Open Clip Art Library are dedicated to the public domain by their authors (Creative"
    " Commons Public Domain Dedication): use them for anything."
)


def package(kind: str, sha256: str, content: str) -> Package:
    return Package(
        client="apt",
        name=f"openclipart-{kind}",
        version=PACKAGE_VERSION,
        sha256=sha256,
        members=(f"openclipart/{kind}/",),
        content=content,
        notice=f"doc/openclipart-{kind}/copyright",
    )


def make(contents: Sequence[Contents]) -> Made:
    """All pictures that can be decoded and have a caption, in the parts ``train`` and ``test``."""
    pictures, drawings = ({_path(name): data for name, data in one.files.items()} for one in contents)
    items: list[Item] = []
    skipped: Counter[str] = Counter()
    for path in track(sorted(pictures), "clip art"):
        try:
            items.append(_item(path, pictures[path], read_meta(drawings[path])))
        except KeyError:
            skipped["drawing_missing"] += 1
        except SvgError as error:
            skipped[error.reason] += 1
        except SampleFault as fault:
            skipped[fault.reason] += 1
    items = _with_unique_captions(items)
    test = _held_out(items)
    return Made(
        parts={
            "train": [item for item in items if item.row["content"] not in test],
            "test": [item for item in items if item.row["content"] in test],
        },
        skipped=skipped,
    )


def caption(meta: Meta) -> str:
    """Title and keywords, each once: as noisy as they are, without what faulty scripts left in them."""
    words = [word for word in meta.keywords if word and not _ARTEFACT.fullmatch(word)]
    return ", ".join(dict.fromkeys(text for text in (meta.title, *words) if text))


def _path(name: str) -> str:
    """Folders and name of a picture: ``openclipart/png/animals/dog.png`` is ``animals/dog``."""
    return name.split("/", 2)[2].rpartition(".")[0]


def _item(path: str, picture: bytes, meta: Meta) -> Item:
    text = caption(meta)
    if not text:
        raise SampleFault("caption_empty", path)
    image = without_margins(picture)
    row = {
        "caption": text,
        "title": meta.title,
        "description": meta.description,
        "keywords": list(meta.keywords),
        "folder": path.partition("/")[0],
        "path": path,
        "contrast": contrast_of(image),
        "content": content_of(image),
    }
    return Item(re.sub(r"[^\w-]", "_", path.replace("/", "__"), flags=re.ASCII), boxed_png(image, BOX), row)


def _with_unique_captions(items: Sequence[Item]) -> list[Item]:
    pictures: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        pictures[item.row["caption"].casefold()].add(item.row["content"])  # as tokenizers see it
    return [
        replace(item, row={**item.row, "unique_caption": len(pictures[item.row["caption"].casefold()]) == 1})
        for item in items
    ]


def _held_out(items: Sequence[Item]) -> set[str]:
    """Contents of the held-out pictures: of each folder a share of those with a caption of their own."""
    folder_of: dict[str, str] = {}
    for item in items:
        if item.row["unique_caption"] and item.row["contrast"] >= LEAST_CONTRAST:
            folder_of.setdefault(item.row["content"], item.row["folder"])  # copies may lie in several
    held: set[str] = set()
    for folder in sorted(set(folder_of.values())):
        contents = [content for content, place in folder_of.items() if place == folder]
        held |= drawn(contents, HELD_OUT_SHARE, "clipart held out")
    return held


RECIPE = Recipe(
    name="clipart",
    version=VERSION,
    packages=(
        package(
            "png",
            "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
            "95c56afc3bc010bf2fe71b93cf2998f6560ca044cd1cfbe9a5e8d35f19c8dfad",
        ),
        package(
            "svg",
            "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
            "476bf57601524c7a6837eb17f2ab83541981353391bf65534c3ead17eff6f27a",
        ),
    ),
    licence=LICENCE,
    make=make,
)
