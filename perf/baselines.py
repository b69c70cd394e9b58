"""Seconds and memory of the methods that use embeddings, beside a plain version of their paper's steps.

    python perf/baselines.py                          # 500,000 x 512, then the slope to 1 M
    python perf/baselines.py --samples 100000 --only semdedup

Each measurement is a process of its own, so that peaks do not mix. The embeddings are random vectors of length 1,
float16, in clusters, with one in ten a near-copy of another.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path[0] = str(Path(__file__).parent.parent)  # or this file would hide the package of its name
WIDTH = 512
METHODS: dict[str, dict[str, Any]] = {
    "semdedup": {"clusters": None, "iterations": 20},
    "semdedup, 5,000 clusters": {"clusters": 5000, "iterations": 10},
    "density": {"iterations": 20},
    "prototypes": {"iterations": 20},
    "clip_score": {},
    "neg_clip_loss": {},
    "d2": {},
    "sas": {},
}


def embeddings(path: Path, samples: int, seed: int) -> None:
    """Write float16 [samples, 512]."""
    array = np.lib.format.open_memmap(path, "w+", np.float16, (samples, WIDTH))
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, samples // 1000), WIDTH)).astype(np.float32)
    for start in range(0, samples, 50_000):
        n = min(50_000, samples - start)
        rows = centres[rng.integers(len(centres), size=n)] + rng.normal(size=(n, WIDTH)).astype(np.float32)
        copies = n // 10
        rows[:copies] = rows[copies : 2 * copies] + 0.05 * rng.normal(size=(copies, WIDTH))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        array[start : start + n] = rows[rng.permutation(n)]
    array.flush()


def ours(name: str, folder: Path) -> None:
    from benchmark.config import Choice
    from benchmark.pool import PoolView
    from benchmark.pruner import make_pruner

    features = {n: np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("image_embedding", "text_embedding")}
    options = {"keep_fraction": 0.7, **METHODS[name]}
    pruner = make_pruner(Choice(name=name.split(",")[0], options=options), "perf")
    pruner.setup(PoolView(len(features["image_embedding"]), "perf", features), num_epochs=1, seed=0)
    pruner.plan(0)


def plain_semdedup(folder: Path, clusters: int) -> None:
    """The steps of the paper's code, without its files: all pairs of a cluster at once, an upper triangle kept."""
    import faiss

    features = np.load(folder / "image_embedding.npy").astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    kmeans = faiss.Kmeans(WIDTH, clusters, niter=20, spherical=True, seed=0)
    kmeans.train(features)
    similarity, nearest = kmeans.index.search(features, 1)
    largest = np.zeros(len(features), dtype=np.float32)
    for number in range(clusters):
        ids = np.flatnonzero(nearest[:, 0] == number)
        ids = ids[np.argsort(similarity[ids, 0])]
        if len(ids):
            largest[ids] = np.triu(features[ids] @ features[ids].T, k=1).max(axis=0)
    np.argsort(largest)


def child(name: str, folder: Path) -> None:
    started = time.perf_counter()
    if name.startswith("plain semdedup"):
        plain_semdedup(folder, len(np.load(folder / "image_embedding.npy", mmap_mode="r")) // 1000)
    else:
        ours(name, folder)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "gigabytes": peak_gigabytes()}))


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
    parser.add_argument("--samples", type=int, default=500_000)
    parser.add_argument("--only", help="methods whose name opens with this")
    parser.add_argument("--no-slope", action="store_true", help="leave out twice the samples")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder)
        return
    names = [n for n in METHODS if n.startswith(options.only or "")]
    if any(n.startswith("semdedup") for n in names):
        names.append("plain semdedup")
    sizes = [options.samples] if options.no_slope else [options.samples, 2 * options.samples]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for samples in sizes:
        with tempfile.TemporaryDirectory() as name:
            for number, array in enumerate(("image_embedding", "text_embedding")):
                embeddings(Path(name) / f"{array}.npy", samples, number)
            for method in names:
                found[method].append(measure(method, Path(name)))
                print(f"  {samples:,} {method}: {found[method][-1]}", file=sys.stderr)
    report(found, sizes)


def report(found: dict[str, list[dict[str, float]]], sizes: list[int]) -> None:
    head = "".join(f"{f'{n:,}: s':>16}{'peak GB':>9}" for n in sizes)
    print(f"{'method':28}{head}{'10 M: s':>12}" if len(sizes) > 1 else f"{'method':28}{head}")
    for name, rows in found.items():
        line = f"{name:28}" + "".join(f"{row['seconds']:16.1f}{row['gigabytes']:9.2f}" for row in rows)
        if len(rows) > 1:  # a power of N through both sizes
            power = np.log(rows[1]["seconds"] / rows[0]["seconds"]) / np.log(sizes[1] / sizes[0])
            line += f"{rows[1]['seconds'] * (1e7 / sizes[1]) ** power:10.0f} (N^{power:.2f})"
        print(line)


if __name__ == "__main__":
    main()
