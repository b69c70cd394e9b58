"""Cost of a method's bookkeeping in a training run: seconds in plan, observe and end_epoch over all seconds.

    python perf/pruning.py [--results DIR]

Reads the records of finished runs, so it measures what real runs did; run ``make quickstart`` first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.record import read_record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("runs"))
    folder = parser.parse_args().results
    paths = sorted(folder.glob("*/*/record.json"))
    if not paths:
        parser.exit(1, f"{folder}: no records; run `make quickstart` first\n")
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


if __name__ == "__main__":
    main()
