"""Time and memory of the report over made-up records: ``python perf/report.py [--records N] [--keep DIR]``.

16 configurations as in the paper's experiment (7 CLIP models on 2 pools, 2 MoCo models on one), 25 methods (six of
them at several budgets), and as many seeds as make N records.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from analysis.claims.registry import read_claims  # noqa: E402

PAPER = read_claims().paper
CONFIGURATIONS = list(PAPER)
BUDGETS = (0.9, 0.7, 0.5, 0.3, 0.1)
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("full", {}),
    ("scan", {}),
    *((name, {"keep_fraction": 0.75}) for name in ("random_subset", "semdedup", "density", "random_dynamic")),
    ("infobatch", {"prune_ratio": 0.5, "delta": 0.875}),
    ("seta", {"prune_ratio": 0.2}),
    ("scan_random", {}),
    ("dissect", {}),
    *((name, {"keep_fraction": budget}) for name in ("clip_score", "prototypes", "d2") for budget in BUDGETS),
]
TASKS = [
    ("zero_shot", "imagenet", "top1"), ("zero_shot", "imagenet", "top5"),
    ("retrieval", "coco", "image_to_text_r1"), ("retrieval", "coco", "text_to_image_r1"),
    ("retrieval", "flickr30k", "image_to_text_r1"),
    ("linear_probe", "imagenet", "top1"), ("linear_probe", "cifar100", "top1"), ("linear_probe", "pets", "top1"),
    ("knn", "imagenet", "top1"),
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--methods", type=int, default=len(METHODS), help="the first so many")
    parser.add_argument("--keep", type=Path, help="make the tree there, unless it is there, and keep it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        tree = options.keep or Path(scratch)
        if not (tree / "results").exists():
            per_seed = len(CONFIGURATIONS) * options.methods
            make(tree / "results", options.methods, -(-options.records // per_seed), options.records)
        megabytes = sum(p.stat().st_size for p in tree.glob("results/*/*/record.json")) / 1e6
        print(f"{megabytes:.0f} MB of records", file=sys.stderr)
        print("| records | seconds | processor s | peak memory | page | all of the report |\n|" + " --: |" * 6)
        print(measured(tree))
    return 0


def make(results: Path, num_methods: int, num_seeds: int, at_most: int) -> None:
    """A sweep folder with a plan of all runs and a record of each."""
    runs = []
    for made in list(records(num_methods, num_seeds))[:at_most]:
        folder = results / made["sweep"] / made["run"]
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(made, sort_keys=True, indent=1) + "\n")
        (folder / "config.yaml").write_text(json.dumps(made["config"], indent=1))  # JSON is YAML
        keys = ("run", "framework", "model", "pool", "method", "seed")
        runs.append({key: made[key] for key in keys})
    plan = {"sweep": "large", "command": "python -m benchmark.sweep sweeps/large.yaml", "runs": runs}
    (results / "large" / "plan.json").write_text(json.dumps(plan))


def records(num_methods: int, num_seeds: int) -> Iterator[dict[str, Any]]:
    for seed in range(num_seeds):
        for i, (framework, model, pool) in enumerate(CONFIGURATIONS):
            for j, (name, options) in enumerate(METHODS[:num_methods]):
                yield _record(framework, model, pool, name, options, seed, np.random.default_rng([seed, i, j]))


def _record(
    framework: str, model: str, pool: str, name: str, options: dict[str, Any], seed: int, rng: np.random.Generator
) -> dict[str, Any]:
    kept = options.get("keep_fraction", 1 - options.get("prune_ratio", 0.3 if name != "full" else 0.0))
    paper = PAPER[framework, model, pool]
    size, epochs = paper.num_samples, paper.epochs
    shares = [1.0 if name.startswith("scan") and e % 4 == 0 else kept for e in range(epochs)]
    by_epoch = [
        {"epoch": e, "kept": int(size * share), "loss": 5 * 0.97**e + 0.1 * rng.random(),
         "lr": 1e-3 * (1 - e / epochs), "seconds": 300 * share * (1 + 0.1 * rng.random())}
        for e, share in enumerate(shares)
    ]  # fmt: skip
    seen, seconds = sum(e["kept"] for e in by_epoch), sum(e["seconds"] for e in by_epoch)
    label = name + (f"({', '.join(f'{k}={v}' for k, v in options.items())})" if options else "")
    tasks = TASKS if framework == "clip" else TASKS[5:]
    metrics = [
        _metric(*task, 0.25 + 0.03 * k - 0.05 * (1 - kept) + 0.01 * rng.normal()) for k, task in enumerate(tasks)
    ]
    return {
        "schema": 1, "sweep": "large", "framework": framework, "model": model, "pool": pool, "method": label,
        "run": f"{framework}-{model}-{pool}-{name}-s{seed}-{zlib.crc32(label.encode()) % 16**6:06x}",
        "seed": seed, "config": _config(framework, model, pool, name, options),
        "code": {"git_sha": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "versions": {"python": "3.11.7", "torch": "2.11.0", "numpy": "2.2.6"},
        "device": "made up", "num_ranks": 4,
        "started": "2026-01-01T00:00:00+0000", "finished": "2026-01-02T00:00:00+0000",
        "pool_facts": {"num_samples": size, "fingerprint": f"{size:016x}", "skipped": {}},
        "training": {
            "epochs": epochs, "samples_full": size * epochs, "samples_seen": seen, "seconds": seconds,
            "pruning_rate": 1 - seen / (size * epochs), "data_seconds": 1.0, "pruning_seconds": 1.0,
            "samples_per_second": seen / seconds, "peak_memory_bytes": 10**9, "final_loss": by_epoch[-1]["loss"],
            "attempts": 1, "by_epoch": by_epoch,
        },
        "metrics": metrics, "evaluation_skipped": [], "pruning_truth": [],
    }  # fmt: skip


def _metric(task: str, dataset: str, metric: str, value: float) -> dict[str, Any]:
    told = {"task": task, "dataset": dataset, "metric": metric, "protocol": f"{task}.v1", "n": 50_000}
    return {**told, "value": value, "ci95": [value - 0.01, value + 0.01]}


def _config(framework: str, model: str, pool: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    published = {key: values[0] for key, values in PAPER[framework, model, pool].train.items()}
    train = {**published, "num_workers": 8, "clip_norm": None, "accumulate": 1, "log_every": 10}
    evaluate = [{"name": task, "options": {"dataset": dataset}} for task, dataset, _ in TASKS]
    return {
        "framework": framework, "model": {"name": model, "options": {}}, "pool": {"name": pool, "options": {}},
        "pruner": {"name": name, "options": options}, "train": train, "evaluate": evaluate,
    }  # fmt: skip


def measured(tree: Path) -> str:
    """One run of the command, in a process of its own: a row of the table."""
    command = [
        sys.executable,
        "-m",
        "analysis.report",
        "--results",
        str(tree / "results"),
        "--out",
        str(tree / "report"),
    ]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    count = done.stdout.split()[0]
    page = (tree / "report/index.html").stat().st_size
    total = sum(path.stat().st_size for path in (tree / "report").rglob("*") if path.is_file())
    cells: Sequence[str] = (
        count, f"{seconds:.1f}", f"{cpu:.1f}", f"{after.ru_maxrss / 1e3:.0f} MB",
        f"{page / 1e6:.2f} MB", f"{total / 1e6:.1f} MB",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
