"""Seconds and memory of the methods that use embeddings, beside a plain version of their paper's steps.

    python perf/baselines.py                          # 500,000 x 512, then the slope to 2 M: hours on two cores
    python perf/baselines.py --only semdedup "sas, greedy" --sizes 125000 500000
    python perf/baselines.py --only neg_clip_loss --sizes 500000 --no-plain

Each measurement is a process of its own, so that peaks do not mix. Processor seconds are those of all its threads:
other users of the machine lengthen them less than the clock's; with OMP_NUM_THREADS=1 no thread spins while it
waits for another. The embeddings are random vectors of length 1,
float16, in clusters, with one in ten a near-copy of another; one in two captions is its image's vector with noise.
The last column is the share of what the plain version keeps that our method keeps too: methods that draw clusters
or batches do not draw those of the plain version.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path[0] = str(Path(__file__).parent.parent)  # or this file would hide the package of its name
from perf import plain  # noqa: E402 (found by the line above)

WIDTH = 512
METHODS: dict[str, dict[str, Any]] = {
    "semdedup": {"clusters": None, "iterations": 20},
    "semdedup, 5,000 clusters": {"clusters": 5000, "iterations": 10},
    "density": {"iterations": 20},
    "prototypes": {"iterations": 20},
    "clip_score": {},
    "neg_clip_loss": {},
    "neg_clip_loss, 1 partition": {"partitions": 1},
    "neg_clip_loss, 1 partition, NormSim-2": {"partitions": 1, "norm_sim": "2"},
    "neg_clip_loss, 1 partition, NormSim-D": {"partitions": 1, "norm_sim": "self"},
    "d2": {"variant": "greedy"},
    "d2, first 20,000": {"variant": "greedy"},
    "sas": {"iterations": 20},
    "sas, greedy": {"iterations": 20, "variant": "greedy"},
}
PLAIN: dict[str, Callable[[Path], np.ndarray]] = {
    "semdedup": plain.semdedup,
    "density": plain.density,
    "prototypes": plain.prototypes,
    "clip_score": plain.clip_score,
    "neg_clip_loss, 1 partition": plain.neg_clip_loss,
    "d2, first 20,000": plain.d2,  # a choice looks at all scores: 500,000 samples would take hours
    "sas": plain.sas,
    "sas, greedy": lambda folder: plain.sas(folder, is_greedy=True),
}
"""The same from the papers' words, by the method that is measured beside it."""
ARRAYS = ("image_embedding", "text_embedding", "target_embedding")


def embeddings(path: Path, samples: int, seed: int, images: np.ndarray | None = None) -> None:
    """Write float16 [samples, 512]; half of them near the row of ``images`` that stands beside them."""
    array = np.lib.format.open_memmap(path, "w+", np.float16, (samples, WIDTH))
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, samples // 1000), WIDTH)).astype(np.float32)
    for start in range(0, samples, 50_000):
        n = min(50_000, samples - start)
        rows = centres[rng.integers(len(centres), size=n)] + rng.normal(size=(n, WIDTH)).astype(np.float32)
        copies = n // 10
        rows[:copies] = rows[copies : 2 * copies] + 0.05 * rng.normal(size=(copies, WIDTH))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows[rng.permutation(n)]
        if images is not None:
            rows[: n // 2] += images[start : start + n // 2] * rng.random((n // 2, 1))
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        array[start : start + n] = rows
    array.flush()


def pruner_of(name: str) -> Any:
    from benchmark.config.run import Choice
    from benchmark.pruner import make_pruner

    options = {"keep_fraction": 0.7, **METHODS[name]}
    return make_pruner(Choice(name=name.split(",")[0], options=options), "perf")


def ours(name: str, folder: Path) -> np.ndarray:
    from benchmark.pool.samples import PoolView

    features = {n: np.load(folder / f"{n}.npy", mmap_mode="r") for n in ARRAYS}
    if "first 20,000" in name:
        features = {n: array[:20_000] for n, array in features.items()}
    pruner = pruner_of(name)
    pruner.setup(PoolView(len(features["image_embedding"]), "perf", features), num_epochs=1, seed=0)
    return pruner.plan(0).keep


def child(name: str, folder: Path) -> None:
    started, processor = time.perf_counter(), time.process_time()
    method = name.removeprefix("plain ")
    keep = ours(name, folder) if method == name else PLAIN[method](folder)
    spent = {"seconds": time.perf_counter() - started, "processor": time.process_time() - processor}
    np.save(folder / f"{name}.keep.npy", keep)
    print(json.dumps({**spent, "gigabytes": peak_gigabytes()}))


def peak_gigabytes() -> float:
    """This process's own peak; the kernel's ru_maxrss would also count what its parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e6


def measure(name: str, folder: Path) -> dict[str, float]:
    words = [sys.executable, __file__, "--child", name, "--folder", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[500_000, 2_000_000], help="of pools; the last two give the slope"
    )
    parser.add_argument("--only", nargs="+", choices=METHODS, default=[*METHODS], metavar="METHOD")
    parser.add_argument("--no-plain", action="store_true", help="leave out the plain versions")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder)
        return
    names = [
        name for n in options.only for name in ((n, f"plain {n}") if n in PLAIN and not options.no_plain else (n,))
    ]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for samples in options.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            embeddings(folder / "image_embedding.npy", samples, 0)
            images = np.load(folder / "image_embedding.npy", mmap_mode="r")
            embeddings(folder / "text_embedding.npy", samples, 1, images)
            embeddings(folder / "target_embedding.npy", samples // 10, 2)
            for method in names:
                found[method].append(measure(method, folder))
                if method.startswith("plain "):
                    found[method][-1]["alike"] = alike(folder, method)
                print(f"  {samples:,} {method}: {found[method][-1]}", file=sys.stderr)
    report(found, options.sizes)


def alike(folder: Path, name: str) -> float:
    """The share of what a plain version keeps that the method keeps too."""
    theirs, mine = (np.load(folder / f"{n}.keep.npy") for n in (name, name.removeprefix("plain ")))
    return float((theirs & mine).sum() / theirs.sum())


def worked_out(name: str, sizes: list[int], seconds: list[float]) -> str:
    """Seconds for 10 M, by what the method says it multiplies, or by the power of N through the last two sizes."""
    power = np.log(seconds[-1] / seconds[-2]) / np.log(sizes[-1] / sizes[-2])
    grown = (1e7 / sizes[-1]) ** power
    if name in METHODS and (multiply_adds := getattr(pruner_of(name), "multiply_adds", None)):
        grown = multiply_adds(10_000_000, WIDTH) / multiply_adds(sizes[-1], WIDTH)
    return f"{seconds[-1] * grown:10.0f} (N^{power:.2f})"


def report(found: dict[str, list[dict[str, float]]], sizes: list[int]) -> None:
    head = "".join(f"{f'{n:,}: s':>16}{'CPU s':>9}{'peak GB':>9}{'alike':>7}" for n in sizes)
    print(f"{'method':44}{head}{'10 M: CPU s':>20}" if len(sizes) > 1 else f"{'method':44}{head}")
    for name, rows in found.items():
        line = f"{name:44}"
        for row in rows:
            line += f"{row['seconds']:16.1f}{row['processor']:9.1f}{row['gigabytes']:9.2f}"
            line += f"{row['alike']:7.2f}" if "alike" in row else " " * 7
        if len(rows) > 1 and "first" not in name:
            line += worked_out(name, sizes, [row["processor"] for row in rows])
        print(line)


if __name__ == "__main__":
    main()
