"""What a pool of shards holds, for a reader: counts, faults, sizes, and a picture of some of its samples."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from benchmark.files import write_atomic
from benchmark.pool.samples import SAMPLE_FAULTS, Sample, SampleError
from benchmark.pool.storage.shards import ShardPool
from benchmark.seeds import generator

QUANTILES = (0.05, 0.5, 0.95)
TOLERANCE = 0.01
"""Share by which a count may differ from the expected one."""

COLUMNS, ROWS, TILE, TEXT_LINES, LINE_HEIGHT = 6, 5, 176, 4, 14


@dataclass(frozen=True)
class Drawn:
    """Samples drawn at random and read; those that cannot be read are counted."""

    samples: list[Sample]
    faults: dict[str, int]


def draw(pool: ShardPool, count: int, seed: int) -> Drawn:
    """Read ``count`` samples without replacement, the same for every pool of that size."""
    ids = generator(seed, "inspect").choice(pool.num_samples, min(count, pool.num_samples), replace=False)
    samples, faults = [], Counter[str]()
    for sample_id in ids.tolist():
        try:
            samples.append(pool.read(sample_id))
        except SampleError as error:
            faults[error.reason] += 1
    return Drawn(samples, dict(sorted(faults.items())))


def print_facts(pool: ShardPool, drawn: Drawn, console: Console) -> None:
    """Write counts by source, what was skipped and why, faults of shards, and quantiles of sizes."""
    index = pool.index
    console.print(f"{pool.num_samples:,} samples in {len(index.shards)} shards, fingerprint {pool.fingerprint}")
    console.print(f"index {index.path}", soft_wrap=True)
    _print_shards(pool, console)
    counts = _table("source", "samples")
    for source, count in pool.source_counts().items():
        counts.add_row(source, f"{count:,}")
    console.print(counts)
    _print_skipped(pool, console)
    for shard in index.shards:
        if shard.fault:
            console.print(f"shard {shard.label} {shard.fault}", soft_wrap=True, markup=False)
    total = len(drawn.samples) + sum(drawn.faults.values())
    console.print(f"of {total} samples drawn at random, {len(drawn.samples)} decode")
    for reason, count in drawn.faults.items():
        console.print(f"  {count} {reason}: {SAMPLE_FAULTS[reason]}")
    sizes = _table("quantile", *(f"{quantile:.0%}" for quantile in QUANTILES))
    for name, values in _sizes(pool, drawn).items():
        if len(values):
            sizes.add_row(name, *(f"{value:,.0f}" for value in np.quantile(values, QUANTILES)))
    console.print(sizes)


def count_problem(found: int, expected: int) -> str:
    """A sentence if ``found`` differs from ``expected`` by more than 1 %, else ""."""
    if abs(found - expected) <= TOLERANCE * expected:
        return ""
    return f"{found:,} samples, expected {expected:,}: {found / expected - 1:+.1%}, more than 1 % off"


def save_grid(drawn: Drawn, path: Path) -> None:
    """A PNG of the first samples drawn, each with its caption."""
    height = TILE + TEXT_LINES * LINE_HEIGHT
    shown = drawn.samples[: COLUMNS * ROWS]
    rows = max(1, -(-len(shown) // COLUMNS))
    sheet = Image.new("RGB", (COLUMNS * (TILE + 8) + 8, rows * (height + 8) + 8), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for i, sample in enumerate(shown):
        left, top = 8 + i % COLUMNS * (TILE + 8), 8 + i // COLUMNS * (height + 8)
        image = sample.image.copy()
        image.thumbnail((TILE, TILE))
        sheet.paste(image, (left + (TILE - image.width) // 2, top + (TILE - image.height) // 2))
        words = textwrap.wrap(sample.caption, 30, max_lines=TEXT_LINES, placeholder=" ...")
        pen.multiline_text((left, top + TILE + 2), "\n".join(words), fill="black", font=font, spacing=1)
    write_atomic(path, lambda file: sheet.save(file, "PNG"))


def _print_shards(pool: ShardPool, console: Console) -> None:
    """Their sizes: a row group is read whole for any of its samples."""
    samples = np.diff(pool.index.starts)
    sizes = [pool.reader.size(number) / 1e6 for number in np.flatnonzero(samples).tolist()]
    console.print(
        f"a shard holds {np.median(samples[samples > 0]):,.0f} samples, {np.median(sizes):,.1f} MB (median)"
    )


def _print_skipped(pool: ShardPool, console: Console) -> None:
    if not pool.skipped:
        console.print("nothing skipped")
        return
    skipped = _table("skipped", "entries", "meaning")
    for reason, count in pool.skipped.items():
        skipped.add_row(reason, f"{count:,}", SAMPLE_FAULTS[reason])
    console.print(skipped)
    alone = pool.skipped.get("image_missing", 0) + pool.skipped.get("caption_missing", 0)
    if alone > pool.num_samples:
        console.print("image and caption of a sample must stand next to each other: sort the files before packing")


def _sizes(pool: ShardPool, drawn: Drawn) -> dict[str, np.ndarray]:
    return {
        "image bytes (all)": np.asarray(pool.index.arrays["image_length"]),
        "image width (drawn)": np.array([sample.image.width for sample in drawn.samples]),
        "image height (drawn)": np.array([sample.image.height for sample in drawn.samples]),
        "caption characters (drawn)": np.array([len(sample.caption) for sample in drawn.samples]),
    }


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(names):
        table.add_column(name, justify="left" if i == 0 or name == "meaning" else "right")
    return table
