"""What a sample costs from Parquet, from files of their own and from tar shards: the same pairs, order by order.

    python perf/forms.py [--samples 4000] [--rounds 3]

Bytes are read as the loader reads them, in the order of an epoch, by one process; decoding is the same for all and
is timed beside them. The order of the forms turns from round to round, and a time is the median of the rounds. Of
row groups a process keeps less than the default here, as the pool is smaller than those that are trained on.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path[0] = str(ROOT)  # or this file's folder would hide packages
from benchmark.config.run import Choice  # noqa: E402 (found by the line above)
from benchmark.pool.source import make_source  # noqa: E402
from benchmark.pool.storage import parquet as parquet_storage  # noqa: E402
from benchmark.pool.storage.shards import ShardPool  # noqa: E402
from benchmark.pool.storage.tarwriter import Member, write_tar  # noqa: E402
from benchmark.training.order import full_order, window_order  # noqa: E402
from perf.data import machine  # noqa: E402

WINDOW = 16
"""Shards that an order mixes within, as ``train.window_shards``."""
KEPT_BYTES = 48 << 20
"""Of row groups: 16 of 100 rows, not those of 1,000."""
PHOTOS = 50
READ = 500
"""Samples of an order that are read."""
SHARD = 1000
"""Samples of a tar shard."""
Pairs = list[tuple[bytes, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    photos = [photo(i) for i in range(PHOTOS)]
    # what follows a JPEG's end no decoder reads, and no Parquet writer takes two images for one
    pairs = [(photos[i % PHOTOS] + b"%07d" % i, f"photograph number {i}") for i in range(options.samples)]
    parquet_storage.KEPT_BYTES = KEPT_BYTES
    with tempfile.TemporaryDirectory() as name:
        pools = {form: write(Path(name) / form.replace(" ", ""), pairs) for form, write in FORMS.items()}
        found: dict[tuple[str, str], list[float]] = {}
        for number in range(options.rounds):
            for form in list(FORMS)[:: 1 if number % 2 == 0 else -1]:
                for what, microseconds in measured(pools[form], number).items():
                    found.setdefault((form, what), []).append(microseconds)
    size = statistics.fmean(len(image) for image, _ in pairs)
    print(
        f"{options.samples:,} JPEGs of {size / 1e3:.0f} KB, {READ:,} read of each order, {options.rounds} rounds;"
        f" load {os.getloadavg()[1]:.0f}; {machine()}\n"
    )
    print("| form | a shard | full: µs a sample | of tar's | window: µs | of tar's | window, decoded: µs |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    median = {key: statistics.median(times) for key, times in found.items()}
    for form, pool in pools.items():
        cells = [form, f"{np.diff(pool.shard_starts).max():,}"]
        for order in ("full", "window"):
            cells += [f"{median[form, order]:.0f}", f"{median[form, order] / median['tar', order]:.1f}"]
        print(f"| {' | '.join(cells)} | {median[form, 'decode']:.0f} |")


def measured(pool: ShardPool, number: int) -> dict[str, float]:
    """Microseconds a sample in one round."""
    full = full_order(pool.num_samples, seed=number, epoch=0)[:READ]
    window = window_order(pool.shard_starts, WINDOW, seed=number, epoch=0)[:READ]
    return {
        "full": timed(pool.read_bytes, full),
        "window": timed(pool.read_bytes, window),
        "decode": timed(pool.read, window),
    }


def photo(number: int) -> bytes:
    """A JPEG of 256 pixels that compresses about as a photograph does."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize((256, 256))
    pixels = np.asarray(coarse).astype(np.int16) + rng.integers(-12, 13, (256, 256, 1), dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def timed(read: Callable[[int], object], order: np.ndarray) -> float:
    """Microseconds a sample."""
    started = time.perf_counter()
    for sample_id in order.tolist():
        read(sample_id)
    return (time.perf_counter() - started) / len(order) * 1e6


def tar(folder: Path, pairs: Pairs) -> ShardPool:
    folder.mkdir()
    for first in range(0, len(pairs), SHARD):
        part = list(enumerate(pairs[first : first + SHARD], start=first))
        members = [
            m for i, (image, text) in part for m in (Member(f"{i}.jpg", image), Member(f"{i}.txt", text.encode()))
        ]
        with (folder / f"{first:06d}.tar").open("wb") as file:
            write_tar(file, members)
    return opened("webdataset", shards=str(folder))


def parquet(rows: int) -> Callable[[Path, Pairs], ShardPool]:
    def write(folder: Path, pairs: Pairs) -> ShardPool:
        folder.mkdir()
        images = [{"bytes": image, "path": None} for image, _ in pairs]
        table = pa.table({"image": images, "caption": [text for _, text in pairs]})
        pq.write_table(table, folder / "train.parquet", row_group_size=rows)
        return opened("parquet", files=str(folder))

    return write


def files(folder: Path, pairs: Pairs) -> ShardPool:
    folder.mkdir()
    with (folder / "pairs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filepath", "title"])
        for i, (image, text) in enumerate(pairs):
            (folder / f"{i}.jpg").write_bytes(image)
            rows.writerow([f"{i}.jpg", text])
    return opened("csv", file=str(folder / "pairs.csv"))


def opened(source: str, **options: str) -> ShardPool:
    pool = make_source(Choice(name=source, options={"name": "photos", **options}), "pool").training_pool()
    assert isinstance(pool, ShardPool)
    return pool


FORMS: dict[str, Callable[[Path, Pairs], ShardPool]] = {
    "tar": tar,
    "parquet, 100 rows a group": parquet(100),
    "parquet, 1,000 rows a group": parquet(1000),
    "csv and files": files,
}

if __name__ == "__main__":
    main()
