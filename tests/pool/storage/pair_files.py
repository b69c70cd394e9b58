"""The same pairs in every form that a source reads."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from shard_files import png, words, write_tar

Pair = tuple[bytes, str]
"""An image file's bytes, and its caption."""


def make_pairs(count: int) -> list[Pair]:
    return [(png(i * 7919, (16, 16)), words(i * 7919)) for i in range(count)]


def as_tar(folder: Path, pairs: Sequence[Pair]) -> dict[str, Any]:
    entries = [
        entry
        for i, (image, text) in enumerate(pairs)
        for entry in ((f"{i:05d}.png", image), (f"{i:05d}.txt", text.encode()))
    ]
    half = len(pairs) // 2 * 2
    write_tar(folder / "0.tar", entries[:half])
    write_tar(folder / "1.tar", entries[half:])
    return {"webdataset": {"name": "x", "shards": str(folder)}}


def as_parquet(folder: Path, pairs: Sequence[Pair], rows: int = 40) -> dict[str, Any]:
    """As Hugging Face's datasets write it."""
    folder.mkdir(parents=True, exist_ok=True)
    half = len(pairs) // 2
    for number, part in enumerate((pairs[:half], pairs[half:])):
        images = [{"bytes": image, "path": f"{i:05d}.png"} for i, (image, _) in enumerate(part)]
        table = pa.table({"image": images, "caption": [text for _, text in part]})
        pq.write_table(table, folder / f"train-{number:05d}-of-00002.parquet", row_group_size=rows)
    return {"parquet": {"name": "x", "files": str(folder)}}


def as_plain_parquet(folder: Path, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Bytes and text, uncompressed, in columns of one's own."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({"uid": list(range(len(pairs))), "jpg": [p[0] for p in pairs], "txt": [p[1] for p in pairs]})
    pq.write_table(table, folder / "all.parquet", row_group_size=64, compression="none")
    return {"parquet": {"name": "x", "files": f"{folder}/*.parquet", "image": "jpg", "caption": "txt"}}


def images_in(folder: Path, pairs: Sequence[Pair], suffix: str = "png") -> list[str]:
    """The images alone; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i:05d}.{suffix}" for i in range(len(pairs))]
    for name, (image, _) in zip(names, pairs, strict=True):
        (folder / name).write_bytes(image)
    return names


def as_csv(folder: Path, pairs: Sequence[Pair], separator: str = "\t") -> dict[str, Any]:
    names = images_in(folder / "images", pairs)
    with (folder / "pairs.csv").open("w", newline="") as file:
        rows = csv.writer(file, delimiter=separator)
        rows.writerow(["filepath", "title"])
        rows.writerows((f"images/{name}", text) for name, (_, text) in zip(names, pairs, strict=True))
    return {"csv": {"name": "x", "file": str(folder / "pairs.csv")}}


def as_json_lines(folder: Path, pairs: Sequence[Pair]) -> dict[str, Any]:
    names = images_in(folder / "images", pairs)
    lines = [{"file_name": name, "text": text} for name, (_, text) in zip(names, pairs, strict=True)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = {"file": str(folder / "metadata.jsonl"), "root": str(folder / "images")}
    return {"csv": {"name": "x", "image": "file_name", "caption": "text", **options}}


def as_table_of_paths(folder: Path, pairs: Sequence[Pair]) -> dict[str, Any]:
    names = images_in(folder / "images", pairs)
    paths = [str(folder / "images" / name) for name in names]
    pq.write_table(pa.table({"filepath": paths, "title": [text for _, text in pairs]}), folder / "paths.parquet")
    return {"csv": {"name": "x", "file": str(folder / "paths.parquet")}}


def as_files(folder: Path, pairs: Sequence[Pair]) -> dict[str, Any]:
    """As img2dataset's ``files``, 100 pairs a folder."""
    for start in range(0, len(pairs), 100):
        part = folder / f"{start // 100:05d}"
        names = images_in(part, pairs[start : start + 100])
        for name, (_, text) in zip(names, pairs[start:], strict=False):
            (part / name).with_suffix(".txt").write_text(text)
            (part / name).with_suffix(".json").write_text(json.dumps({"caption": text, "status": "success"}))
    return {"files": {"name": "x", "root": str(folder)}}


def as_coco(folder: Path, pairs: Sequence[Pair]) -> dict[str, Any]:
    names = images_in(folder / "train2017", pairs, "jpg")
    images = [{"id": 10 + i, "file_name": name} for i, name in enumerate(names)]
    captions = [{"image_id": 10 + i, "caption": text} for i, (_, text) in enumerate(pairs)]
    (folder / "annotations").mkdir()
    node = {"images": images[::-1], "annotations": captions}
    (folder / "annotations" / "captions_train2017.json").write_text(json.dumps(node))
    return {"coco_captions": {"root": str(folder), "split": "train2017", "captions": "first"}}


FORMS: dict[str, Callable[[Path, Sequence[Pair]], dict[str, Any]]] = {
    "tar": as_tar,
    "parquet": as_parquet,
    "plain parquet": as_plain_parquet,
    "csv": as_csv,
    "json lines": as_json_lines,
    "table of paths": as_table_of_paths,
    "files": as_files,
    "coco": as_coco,
}
"""Each writes pairs into a folder and says the pool, as a sweep file does."""
