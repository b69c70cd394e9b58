"""Seconds to encode images like ImageNet's with 1 and 2 ranks, and with a process that decodes ahead.

    python perf/evaluate_ranks.py [--images 2000] [--rounds 3]

Made-up JPEGs of 500 x 375 px, decoded, resized and encoded by a ViT-S/32 of open_clip with fresh weights, one
thread a process. Each way takes the same images in each round, in alternating order; rows of all ways are compared
byte by byte. Nothing is kept on disk.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as td
from PIL import Image

sys.path[0] = str(Path(__file__).parent.parent)
CHUNK = 100
"""Images of a block: an evaluation takes 4,096, of sets that are larger."""
WAYS = {"1 rank": (1, 0), "1 rank, 1 worker": (1, 1), "2 ranks": (2, 0)}
"""Ranks, and workers of each."""
MODEL = {
    "embed_dim": 384,
    "vision_cfg": {"image_size": 224, "patch_size": 32, "width": 384, "layers": 12, "head_width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


def jpegs(count: int) -> list[bytes]:
    """Smooth pictures with some noise, about 60 KB each; 100 that differ, again and again."""
    rng, found = np.random.default_rng(0), []
    for _ in range(min(count, 100)):
        smooth = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
        noisy = np.asarray(smooth).astype(np.int16) + rng.integers(-12, 13, (375, 500, 3))
        file = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return [found[i % len(found)] for i in range(count)]


def work(rank: int, way: str, data: list[bytes], meeting: str, told: multiprocessing.queues.Queue) -> None:  # type: ignore[type-arg]
    """Encode all; rank 0 tells the seconds and the rows' bytes."""
    from benchmark import dist
    from benchmark.config.run import Choice
    from benchmark.evaluate import cache
    from benchmark.evaluate.means import Means
    from benchmark.models.clip import objective as clip
    from benchmark.pool.storage.imagefolder import LazyImages

    ranks, workers = WAYS[way]
    torch.set_num_threads(1)
    cache.CHUNK = CHUNK
    if ranks > 1:
        td.init_process_group("gloo", meeting, timedelta(minutes=10), rank=rank, world_size=ranks)
    encoder = clip.make(Choice(name="small", options=MODEL), 0).encoder(batch_size=50)
    images = LazyImages(range(len(data)), lambda i: Image.open(io.BytesIO(data[i])), "")
    dist.meet()
    started = time.perf_counter()
    rows = cache.CachedEncoder(encoder, None, means=Means(num_workers=workers)).encode_images(images)
    if rank == 0:
        told.put((time.perf_counter() - started, rows.tobytes()))
    dist.meet()


def seconds_of(way: str, data: list[bytes]) -> tuple[float, bytes]:
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meet"
        ranks = [context.Process(target=work, args=(r, way, data, meeting, told)) for r in range(WAYS[way][0])]
        for rank in ranks:
            rank.start()
        found: tuple[float, bytes] = told.get()
        for rank in ranks:
            rank.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    data = jpegs(options.images)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    expected = b""
    for _ in range(options.rounds):
        for way in WAYS:
            took, rows = seconds_of(way, data)
            expected = expected or rows
            assert rows == expected, way
            seconds[way].append(took)
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print("| encoding | images/s | 1 rank over this |\n| --- | --: | --: |")
    first = seconds["1 rank"]
    for way, took in seconds.items():
        ratios = [a / b for a, b in zip(first, took, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {way} | {options.images / statistics.median(took):.0f} | {spread} |")


if __name__ == "__main__":
    main()
