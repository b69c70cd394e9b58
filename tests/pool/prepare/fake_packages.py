"""Tiny packages in the registries' formats, and the pins that go with them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.pool.prepare.dataset import Recipe
from benchmark.pool.prepare.packages import Package, content_hash, file_hash

SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/">
<title>not this</title><metadata>
<rdf:RDF><cc:Work><dc:title>{title}</dc:title><dc:description>{about}</dc:description>
<dc:creator><cc:Agent><dc:title>an author</dc:title></cc:Agent></dc:creator>
<dc:subject><rdf:Bag>{words}</rdf:Bag></dc:subject></cc:Work></rdf:RDF></metadata></svg>"""


def svg(title: str, *keywords: str, about: str = "") -> bytes:
    words = "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords)
    return SVG.format(title=title, about=about, words=words).encode()


def png(seed: int, size: tuple[int, int] = (64, 64), margin: int = 0) -> bytes:
    """A picture of its own for every seed, with a transparent margin."""
    rng = np.random.default_rng(seed)
    pixels = np.full((size[1], size[0], 4), 255, dtype=np.uint8)
    pixels[..., :3] = rng.integers(0, 256, size=(1, 1, 3), dtype=np.uint8)
    pixels[size[1] // 2 :, : size[0] // 2, :3] = rng.integers(0, 256, size=3, dtype=np.uint8)
    image = Image.new("RGBA", (size[0] + 2 * margin, size[1] + 2 * margin), (0, 0, 0, 0))
    image.paste(Image.fromarray(pixels), (margin, margin))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def tar(files: Mapping[str, bytes], links: Mapping[str, str], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()


def write_tgz(path: Path, files: Mapping[str, bytes]) -> None:
    path.write_bytes(tar({f"package/{name}": data for name, data in files.items()}, {}, "w:gz"))


def write_deb(path: Path, files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> None:
    """``files`` below ``usr/share``; links as Debian has them, relative to their own folder."""
    inside = {f"./usr/share/{name}": data for name, data in files.items()}
    data = tar(inside, {f"./usr/share/{name}": target for name, target in (links or {}).items()}, "w:xz")
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data}
    whole = b"!<arch>\n"
    for name, content in parts.items():
        whole += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        whole += content + b"\n" * (len(content) % 2)
    path.write_bytes(whole)


def pinned(recipe: Recipe, paths: Sequence[Path], contents: Sequence[Mapping[str, bytes]]) -> Recipe:
    """The recipe with the pins of these packages."""
    packages: list[Package] = []
    for package, path, files in zip(recipe.packages, paths, contents, strict=True):
        read = {name: data for name, data in files.items() if name != package.notice}
        packages.append(replace(package, sha256=file_hash(path), content=content_hash(read)))
    return replace(recipe, packages=tuple(packages))


def emoji_files(vendor: str, first_seed: int) -> dict[str, bytes]:
    """40 emoji in two categories, the first with skin tones; "copy" shows the picture of "thing 2"."""
    table, images = [], {}
    for number in range(40):
        name = "COPY" if number == 3 else f"THING {number}"
        emoji = {"name": name, "image": f"{number:04x}.png", "short_names": [name.lower()]}
        emoji |= {"category": ("Food", "Flags")[number % 2], "subcategory": f"sub-{number % 4}"}
        images[f"img/{vendor}/64/{number:04x}.png"] = png(first_seed + (2 if number == 3 else number))
        if number == 0:
            emoji["skin_variations"] = {"1F3FB-1F3FF": {"image": "0000-1f3fb.png"}}
            images[f"img/{vendor}/64/0000-1f3fb.png"] = png(first_seed + 900)
        table.append(emoji)
    return {"emoji.json": json.dumps(table).encode(), "README.md": b"words of a licence", **images}


def clipart_files() -> tuple[dict[str, bytes], dict[str, bytes], dict[str, str]]:
    """Pictures, drawings and links: 40 captions of their own, 10 pictures that share one, 3 that are faulty."""
    pictures, drawings = {}, {}
    for number in range(50):
        name = f"{('animals', 'food')[number % 2]}/deep.er/thing_{number}"
        pictures[f"openclipart/png/{name}.png"] = png(number, (300, 150), margin=40)
        title = "a series" if number >= 40 else f"Thing {number}"
        drawings[f"openclipart/svg/{name}.svg"] = svg(title, "", "hash(0x1f)", title, "kind")
    for name, data in {
        "entity": b'<!DOCTYPE s [<!ENTITY a "b">]><s>&a;</s>',
        "broken": b"<s>",
        "mute": svg(""),
    }.items():
        pictures[f"openclipart/png/food/{name}.png"] = png(7)
        drawings[f"openclipart/svg/food/{name}.svg"] = data
    links = {}
    for kind in ("png", "svg"):
        links[f"openclipart/{kind}/unsorted/again.{kind}"] = f"../animals/deep.er/thing_0.{kind}"
        links[f"openclipart/{kind}/unsorted/away.{kind}"] = "../../../../../../etc/hostname"
    return pictures, drawings, links


def idx_files() -> dict[str, bytes]:
    """40 training and 10 test images by the names of the published files, unpacked."""
    files = {}
    for name, count in (("train", 40), ("t10k", 10)):
        rng = np.random.default_rng(count)
        pixels = rng.integers(0, 256, size=(count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        sizes = np.array([count, 28, 28], dtype=">u4").tobytes()
        files[f"{name}-images-idx3-ubyte"] = b"\0\0\x08\x03" + sizes + pixels.tobytes()
        files[f"{name}-labels-idx1-ubyte"] = b"\0\0\x08\x01" + sizes[:4] + labels.tobytes()
    return files


def packed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in files.items()}
