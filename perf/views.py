"""MoCo v3's pairs of views per core-second: `train.augment: pillow` and `device`.

    OMP_NUM_THREADS=1 python perf/views.py

From the bytes of a JPEG to what a worker hands on, in one process, without a loader; and what `device` leaves to
the model's device, as time of the GPU where there is one, else of one core. The order alternates from round to
round; seconds are the processor's own, which others on the machine change little.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path[0] = str(ROOT)  # or this file would hide the package of its name
from benchmark.config.run import Choice  # noqa: E402 (found by the line above)
from benchmark.models.moco.augment import augmented  # noqa: E402
from benchmark.models.moco.crops import Crops  # noqa: E402
from benchmark.models.moco.options import model_options  # noqa: E402
from benchmark.models.moco.views import TwoViews  # noqa: E402
from benchmark.models.objective import Transform  # noqa: E402
from benchmark.pool.samples import Sample  # noqa: E402
from benchmark.seeds import generator  # noqa: E402
from perf.data import machine  # noqa: E402

SIZES = ((341, 256), (500, 375))
"""Width and height: a shorter side of 256, and ImageNet's usual size."""
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PART = f"device: the device's part, on {'a GPU' if DEVICE.type == 'cuda' else 'one core'}"


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    print(
        f"{options.images} JPEGs of each size, 224 px, {options.rounds} rounds in alternating order;"
        f" load {os.getloadavg()[0]:.0f}; {machine()}\n"
    )
    for size in SIZES:
        files = files_of(size, options.images)
        print("\n".join([*_table(size, files, measured(files, options.rounds)), ""]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def files_of(size: tuple[int, int], count: int) -> list[bytes]:
    """JPEGs of colour fields, edges and texture."""
    rng, files = generator(0, "perf"), []
    for _ in range(count):
        noise = [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for side in (8, 96)]
        fields, texture = (n.resize(size, Image.Resampling.BICUBIC) for n in noise)
        buffer = io.BytesIO()
        Image.blend(fields, texture, 0.3).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def _decoded(file: bytes) -> Sample:
    return Sample(Image.open(io.BytesIO(file)).convert("RGB"), "")


def measured(files: list[bytes], rounds: int) -> dict[str, list[float]]:
    """Seconds a pair by what is measured and round; the first round is not kept."""
    model = model_options(Choice(name="vit_small"), "model")
    crops = Crops(model)
    torch.manual_seed(0)
    columns = zip(*(crops(_decoded(file)) for file in files), strict=True)
    first, second, rows = (torch.stack(column).to(DEVICE) for column in columns)

    def worker(transform: Transform) -> Callable[[], object]:
        return lambda: [transform(_decoded(file)) for file in files]

    def on_device() -> None:
        for pixels, row in zip((first, second), rows.unbind(1), strict=True):
            augmented(pixels, row)

    parts: dict[str, Callable[[], object]] = {
        "decoding alone": lambda: [_decoded(file) for file in files],
        "pillow": worker(TwoViews(model)),
        "device: the worker's part": worker(crops),
        PART: on_device,
    }
    found: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(rounds + 1):
        for name, part in list(parts.items())[:: 1 if number % 2 == 0 else -1]:
            torch.manual_seed(number)
            found[name].append(_seconds(part) / len(files))
    return {name: seconds[1:] for name, seconds in found.items()}


def _seconds(part: Callable[[], object]) -> float:
    """The processor's; the clock's for a GPU, which it waits for."""
    clock = time.perf_counter if DEVICE.type == "cuda" else time.process_time
    started = clock()
    part()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def _table(size: tuple[int, int], files: list[bytes], found: dict[str, list[float]]) -> list[str]:
    kilobytes = sum(map(len, files)) / len(files) / 1000
    lines = [
        f"| {size[0]} x {size[1]}, {kilobytes:.0f} KB each | ms a pair | pairs a core-second | over pillow |",
        "| --- | --: | --: | --: |",
    ]
    for name, seconds in found.items():
        ratios = [base / own for base, own in zip(found["pillow"], seconds, strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        middle = statistics.median(seconds)
        lines.append(f"| {name} | {1000 * middle:.2f} | {1 / middle:.0f} | {ratio} |")
    return lines


if __name__ == "__main__":
    main()
