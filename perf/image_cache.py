"""What `train.image_cache_mb` saves: a small CLIP of the mini paper, trained with and without it.

    python perf/image_cache.py                # all of emoji and clip art: prepare both first (docs/data.md)
    python perf/image_cache.py --share 0.1    # a fixed random part of them, for a short measurement

The first model of sweeps/mini_main.yaml, with its training but for the epochs. The order alternates from round to
round. Seconds are those of the whole run, its first epoch among them, in which all is still read and decoded.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path[0] = str(ROOT)  # or this file would hide the package of its name
from baselines.random_subset import RandomSubset  # noqa: E402 (found by the line above)
from benchmark.config.run import TrainConfig  # noqa: E402
from benchmark.config.sweepfile import Grid, read_sweep  # noqa: E402
from benchmark.models.frameworks import make_objective, resolve_model  # noqa: E402
from benchmark.pool.cache import CachedPool  # noqa: E402
from benchmark.pool.samples import Pool  # noqa: E402
from benchmark.pool.source import make_source  # noqa: E402
from benchmark.runs.folder import RunFolder  # noqa: E402
from benchmark.training.trainer import Trainer  # noqa: E402
from perf.data import machine  # noqa: E402

SECONDS = ("whole run", "its wait for batches", "processor", "epochs after the first")


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    grid = read_sweep(ROOT / "sweeps" / "mini_main.yaml").grids[0]
    config = replace(grid.train, epochs=options.epochs)
    pool = make_source(grid.pools[0], "pool").training_pool()
    runs: list[tuple[str, int]] = [("off", 0), ("on", options.megabytes)]
    found: dict[str, list[dict[str, float]]] = {name: [] for name, _ in runs}
    for number in range(options.rounds):
        for name, megabytes in runs[:: 1 if number % 2 == 0 else -1]:
            opened = CachedPool(pool, megabytes * 10**6) if megabytes else pool
            found[name].append(_trained(grid, config, opened, options.share))
            print(name, {key: round(value, 2) for key, value in found[name][-1].items()}, file=sys.stderr)
    print(
        f"{options.share:g} of {pool.num_samples:,} samples, {options.epochs} epochs, {options.megabytes} MB,"
        f" {options.rounds} rounds in alternating order, one thread; load {os.getloadavg()[1]:.0f}; {machine()}\n"
    )
    print("\n".join(_table(found)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the pool that is trained on")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=400, help="train.image_cache_mb; all samples take 338")
    return parser.parse_args()


def _trained(grid: Grid, config: TrainConfig, pool: Pool, share: float) -> dict[str, float]:
    """A run's seconds: on the clock, waiting for batches, of the processor; and of the epochs after the first."""
    objective = make_objective(grid.framework, resolve_model(grid.framework, grid.models[0], "model"), 0)
    with tempfile.TemporaryDirectory(prefix="scan-bench-perf-") as folder:
        before = time.process_time()
        pruner = RandomSubset(keep_fraction=share)
        trainer = Trainer(RunFolder(folder), config, 0, pool, objective, pruner, torch.device("cpu"))
        facts: dict[str, Any] = trainer.fit()
    later = sum(row["seconds"] for row in facts["by_epoch"][1:])
    clock = (facts["seconds"], facts["data_seconds"], time.process_time() - before, later)
    return dict(zip(SECONDS, clock, strict=True))


def _table(found: dict[str, list[dict[str, float]]]) -> list[str]:
    """Medians of both, and the ratio round by round."""
    lines = ["| seconds | off | on | on over off |", "| --- | --: | --: | --: |"]
    for key in SECONDS:
        off, on = ([run[key] for run in found[name]] for name in ("off", "on"))
        ratios = [b / a for a, b in zip(off, on, strict=True)]
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        lines.append(f"| {key} | {statistics.median(off):.1f} | {statistics.median(on):.1f} | {spread} |")
    return lines


if __name__ == "__main__":
    main()
