"""The emoji of two vendors: names, categories and skin tones from ``emoji.json``, the pictures as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmark.pool.prepare.dataset import Made, Recipe
from benchmark.pool.prepare.packages import Contents, Package
from benchmark.pool.prepare.pictures import content_of, decoded
from benchmark.pool.prepare.shardfiles import Item
from benchmark.pool.prepare.splits import drawn, grouped
from benchmark.pool.sources.emoji import VERSION

HELD_OUT_SHARE = 0.2
"""Of the names."""
PACKAGE_VERSION = "16.0.0"

TONES = {
    "1F3FB": "light",
    "1F3FC": "medium-light",
    "1F3FD": "medium",
    "1F3FE": "medium-dark",
    "1F3FF": "dark",
}

LICENCE = (
    "Google's emoji (Noto) are under the Apache License 2.0; Twitter's (Twemoji), copyright Twitter, Inc and other"
    " contributors, are under Creative Commons Attribution 4.0: name them where you show pictures; the names and"
    " categories (emoji-data, Cal Henderson) are under the MIT licence."
)


def package(vendor: str, sha256: str, content: str) -> Package:
    return Package(
        client="npm",
        name=f"emoji-datasource-{vendor}",
        version=PACKAGE_VERSION,
        sha256=sha256,
        members=("emoji.json", f"img/{vendor}/64/"),
        content=content,
        notice="README.md",
    )


def make(contents: Sequence[Contents]) -> Made:
    """Samples of both vendors, in the parts that ``benchmark.pool.sources.emoji`` describes."""
    items = [item for one in contents for item in _items(one)]
    groups = grouped([(("name", i.row["name"]), ("picture", i.row["content"])) for i in items])
    held_groups = drawn((items[group].row["name"] for group in groups), HELD_OUT_SHARE, "emoji held out")
    last_vendor = items[-1].row["vendor"]
    held = [item for item, group in zip(items, groups, strict=True) if items[group].row["name"] in held_groups]
    test = {item.row["content"] for item in held if item.row["vendor"] == last_vendor}
    held_keys = {item.key for item in held}
    return Made(
        parts={
            "train": [item for item in items if item.key not in held_keys],
            # a copy of a test picture goes with it, whichever vendor drew it
            "seen": [item for item in held if item.row["content"] not in test],
            "test": [item for item in held if item.row["content"] in test],
        }
    )


def caption(name: str, tone: str) -> str:
    """The name in lower case, with the skin tone or tones: "waving hand sign, medium skin tone"."""
    words = list(dict.fromkeys(TONES[code] for code in tone.split("-") if code))
    if not words:
        return name.lower()
    return f"{name.lower()}, {' and '.join(words)} skin tone{'s' * (len(words) > 1)}"


def _items(contents: Contents) -> Iterator[Item]:
    vendor = contents.package.name.rpartition("-")[2]
    for emoji in json.loads(contents.files["emoji.json"]):
        yield _item(contents, vendor, emoji, "", emoji["image"])
        for tone, variation in emoji.get("skin_variations", {}).items():
            yield _item(contents, vendor, emoji, tone, variation["image"])


def _item(contents: Contents, vendor: str, emoji: Mapping[str, Any], tone: str, file: str) -> Item:
    data = contents.files[f"img/{vendor}/64/{file}"]
    row = {
        "caption": caption(emoji["name"], tone),
        "name": emoji["name"].lower(),
        "tone": tone,
        "vendor": vendor,
        "category": emoji["category"],
        "subcategory": emoji["subcategory"],
        "short_names": emoji["short_names"],
        "content": content_of(decoded(data)),
    }
    return Item(f"{vendor}_{file.partition('.')[0]}", data, row)


RECIPE = Recipe(
    name="emoji",
    version=VERSION,
    packages=(
        package(
            "google",
            "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
            "4514ce264d85db7b6690de6f9455e01daa327b61198619426807296a12e410a7",
        ),
        package(
            "twitter",
            "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
            "57917c1616ab91b585a413a91c68361c72468a6e9038719c69b450ee111c58a1",
        ),
    ),
    licence=LICENCE,
    make=make,
)
