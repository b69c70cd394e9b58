"""Time to plan and submit a sweep on a real SLURM: ``python perf/submit.py [--runs 1000] [--repeats 3]``.

Starts the test cluster of ``tests/cluster.py`` (root and Debian's SLURM packages), submits the runs held,
calls the same command once more, asks for the status and cancels them. Prints a table of seconds of a whole
command, Python's start and torch's import among them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from cluster import cluster, why_not  # noqa: E402 (the test cluster's own script)

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
STEPS = (("plan and submit", "--cluster=slurm"), ("call again", "--cluster=slurm"), ("status", "--status"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    seconds: dict[str, list[tuple[float, float]]] = {}
    with cluster() as environment:
        for _ in range(options.repeats):
            with tempfile.TemporaryDirectory() as name:
                arrays = _measure(Path(name), options.runs, environment, seconds)
    print(f"{options.runs} runs, arrays: {arrays}, {options.repeats} repeats, {os.cpu_count()} cores")
    print("\n| command | seconds, median (all) | CPU seconds |\n| --- | --: | --: |")
    for step, found in seconds.items():
        walls = [wall for wall, _ in found]
        listed = ", ".join(f"{wall:.1f}" for wall in walls)
        cpu = statistics.median(cpu for _, cpu in found)
        print(f"| {step} | {statistics.median(walls):.1f} ({listed}) | {cpu:.1f} |")
    return 0


def _measure(
    folder: Path, runs: int, environment: dict[str, str], seconds: dict[str, list[tuple[float, float]]]
) -> int:
    """One round; returns the number of arrays SLURM holds."""
    grid = {
        "framework": "clip",
        "model": {"tiny": MODEL},
        "pool": {"shapes": {"num_samples": 64}},
        "pruner": ["full", "scan"],
        "seed": list(range(runs // 2)),
        "train": {"epochs": 3, "batch_size": 8, "lr": 1e-3},
        "launch": {"at_once": 50, "sbatch": {"hold": True}},
    }
    (folder / "many.yaml").write_text(yaml.safe_dump({"name": "many", "grid": [grid]}))
    command = [sys.executable, "-m", "benchmark.sweep", str(folder / "many.yaml")]
    command += ["--results", str(folder / "results")]
    for step, word in STEPS:
        before, started = os.times(), time.perf_counter()
        subprocess.run([*command, word], cwd=ROOT, env=environment, check=True, capture_output=True)
        wall, after = time.perf_counter() - started, os.times()
        cpu = after.children_user - before.children_user + after.children_system - before.children_system
        seconds.setdefault(step, []).append((wall, cpu))
    squeue = ["squeue", "-h", "-r", "-t", "PD", "-o", "%F"]
    held = subprocess.run(squeue, env=environment, check=True, capture_output=True, text=True).stdout.split()
    assert len(held) == runs // 2 * 2, f"{len(held)} jobs for {runs} runs"
    subprocess.run([*command, "--cancel"], cwd=ROOT, env=environment, check=True, capture_output=True)
    return len(set(held))


if __name__ == "__main__":
    sys.exit(main())
