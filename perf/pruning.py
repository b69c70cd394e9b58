"""Cost of a method's bookkeeping: in finished runs, and of SCAN at the scale of millions of samples.

    python perf/pruning.py [--results DIR]     # from records of finished runs; run `make quickstart` first
    python perf/pruning.py --scale [--large]   # 10 M samples beside a set-based version at 1 M; --large: 100 M too

The first table reads records, so it measures what real runs did: seconds in plan, observe and end_epoch over all
seconds. The second feeds random losses, a whole preparation epoch, in this process.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

sys.path[0] = str(Path(__file__).parent.parent)  # or baselines.py beside this file would hide the package
from baselines.scan import BITS, Scan  # noqa: E402 (found by the line above)
from benchmark.pool.samples import PoolView  # noqa: E402
from benchmark.runs.record import read_record  # noqa: E402

BATCH = 800
"""The global batch of the published CLIP run."""
COLUMNS = (
    "state MB",
    "checkpoint MB",
    "observe ms/step",
    "end_epoch s",
    "plan s",
    "plan peak MB",
    "ms/step in all",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("runs"))
    parser.add_argument("--scale", action="store_true", help="measure SCAN on simulated losses instead")
    parser.add_argument("--large", action="store_true", help="with --scale: 100 M samples too, in 1.5 GB")
    options = parser.parse_args()
    if options.scale:
        scale(options.large)
    else:
        paths = sorted(options.results.glob("*/*/record.json"))
        if not paths:
            parser.exit(1, f"{options.results}: no records; run `make quickstart` first\n")
        finished_runs(paths)


def finished_runs(paths: list[Path]) -> None:
    print(f"{'run':52} {'steps':>6} {'ms/step':>8} {'pruning us/step':>16} {'share %':>8} {'data %':>7}")
    for path in paths:
        record = read_record(path)
        training, batch = record["training"], record["config"]["train"]["batch_size"]
        steps = training["samples_seen"] / batch
        share = training["pruning_seconds"] / training["seconds"]
        print(
            f"{record['run'][:52]:52} {steps:6.0f} {1e3 * training['seconds'] / steps:8.1f}"
            f" {1e6 * training['pruning_seconds'] / steps:16.1f} {100 * share:8.3f}"
            f" {100 * training['data_seconds'] / training['seconds']:7.1f}"
        )


def scale(large: bool) -> None:
    print(f"{'SCAN, batch 800':24}" + "".join(f"{name:>17}" for name in COLUMNS))
    ours = {}
    for num_samples in (1_000_000, 10_000_000, 100_000_000)[: 2 + large]:
        ours[num_samples] = measured(num_samples)
        row(f"{num_samples // 10**6} M", ours[num_samples])
    sizes = sorted(ours)[-2:]
    far = [ours[sizes[1]][i] + (ours[sizes[1]][i] - ours[sizes[0]][i]) / (sizes[1] - sizes[0]) * (1e9 - sizes[1])
           for i in range(6)]  # fmt: skip
    far[2] = ours[sizes[1]][2]  # a step's work does not grow with the pool, save for slower memory
    if large:
        far[5] = far[0] + ours[sizes[1]][5] - ours[sizes[1]][0]  # one mask and `keep` grow; the draw is in chunks
    row("1 B (worked out)", [*far, far[2] + 1e3 * (far[3] + far[4]) / (1e9 / BATCH)])
    sets = set_based(1_000_000)
    row("set-based, 1 M", sets)
    few = ours[1_000_000]
    print(
        f"set-based over ours at 1 M: memory {sets[0] / few[0]:.0f} x, step {sets[2] / few[2]:.0f} x,"
        f" plan {sets[4] / few[4]:.0f} x"
    )


def row(name: str, values: list[float]) -> None:
    print(f"{name:24}" + "".join(f"{value:17.3f}" for value in values))


def batches(num_samples: int, steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ids all over the pool, without repeats in a batch, and losses whose directions agree as in training."""
    rng = np.random.default_rng(0)
    stride = num_samples // BATCH
    shared = rng.normal(2, 1, (64, BATCH, 1))
    losses = (shared + 0.5 * rng.normal(size=(64, BATCH, 2))).astype(np.float32)
    starts = rng.permutation(stride)[:steps]
    order = np.argsort(rng.random(BATCH))
    return [((start + stride * order).astype(np.int64), losses[i % 64]) for i, start in enumerate(starts)]


def measured(num_samples: int) -> list[float]:
    scan = Scan()
    scan.setup(PoolView(num_samples, "perf"), num_epochs=32, seed=0)
    epoch_steps = num_samples // BATCH
    parts = batches(num_samples, min(epoch_steps, 12_500))
    for epoch in (0, 1):  # warm-up
        scan.observe(*parts[epoch])
        scan.end_epoch(epoch)
    started = time.perf_counter()
    for ids, losses in parts:
        scan.observe(ids, losses)
    observe = (time.perf_counter() - started) / len(parts)
    if len(parts) < epoch_steps:  # the rest of the epoch, as if observed
        rng = np.random.default_rng(1)
        for first in range(0, num_samples, 10_000_000):
            value = rng.random(10_000_000, dtype=np.float32)
            marks = (value < 0.3) * BITS["redundant"] | (value > 0.7) * BITS["ill_matched"] | 1
            scan.marks_now[first : first + len(value)] = marks
    started = time.perf_counter()
    scan.end_epoch(2)
    end_epoch = time.perf_counter() - started
    plan = statistics.median(timed_plan(scan, epoch) for epoch in (3, 4, 5))
    tracemalloc.start()
    scan.plan(4)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    state = scan.marks_now.nbytes / 1e6
    saved = sum(value.nbytes for value in scan.state_dict().values() if isinstance(value, np.ndarray)) / 1e6
    per_step = 1e3 * (observe + (end_epoch + plan) / epoch_steps)
    return [state, saved, 1e3 * observe, end_epoch, plan, peak, per_step]


def timed_plan(scan: Scan, epoch: int) -> float:
    started = time.perf_counter()
    scan.plan(epoch)
    return time.perf_counter() - started


def set_based(num_samples: int) -> list[float]:
    """The bookkeeping with a Python set of (number, five tokens) a kind, as the published code keeps it."""
    tokens = np.random.default_rng(1).integers(0, 49408, (num_samples, 5))
    rng = random.Random(0)
    parts = batches(num_samples, num_samples // BATCH)
    before = resident()
    marked: tuple[set[object], set[object]] = (set(), set())
    started = time.perf_counter()
    for ids, losses in parts:
        count = int(0.3 * BATCH)
        falling = np.argsort(-losses, axis=0)
        for kind, extreme in zip(marked, (falling[-count:], falling[:count]), strict=True):
            image, text = (set(extreme[:, d].tolist()) for d in (0, 1))
            chosen = image & text
            if len(chosen) < 0.9 * count:
                chosen |= set(rng.sample(list((image | text) - chosen), count - len(chosen)))
            kind.update((int(ids[i]), tuple(tokens[ids[i]].tolist())) for i in chosen)
    observe = (time.perf_counter() - started) / len(parts)
    memory = (resident() - before) / 1e6
    started = time.perf_counter()
    candidates = list(marked[0] | marked[1])
    set(rng.sample(candidates, int(0.75 * len(candidates))))
    plan = time.perf_counter() - started
    none = float("nan")
    return [memory, none, 1e3 * observe, none, plan, none, 1e3 * (observe + plan / len(parts))]


def resident() -> int:
    """Bytes this process holds in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main()
