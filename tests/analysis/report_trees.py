"""Synthetic results for the tests of the report: records as a run leaves them, and plans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmark.runs.folder import EVALUATION_FILE, PLAN_FILE, RECORD_FILE
from benchmark.runs.record import Metric, write_evaluation, write_record

COMMAND = "python -m benchmark.sweep sweeps/tiny.yaml"


def metric(value: float, **changes: Any) -> dict[str, Any]:
    """A row of ``metrics``: top-1 accuracy of a linear probe unless changed."""
    told = {
        "task": "linear_probe",
        "dataset": "shapes",
        "metric": "top1",
        "n": 1000,
        "protocol": "linear_probe.v1",
    }
    told |= {"ci95": (max(value - 0.03, 0.0), min(value + 0.03, 1.0))}
    return Metric(**{**told, "value": value, **changes}).row()


def epochs(kept: list[int]) -> list[dict[str, Any]]:
    """Rows of ``by_epoch`` with a falling loss."""
    return [{"epoch": i, "kept": k, "loss": 4 / (i + 1), "seconds": 10.0, "lr": 1e-3} for i, k in enumerate(kept)]


def record(method: str = "full", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A valid record of CLIP on shapes; ``changes`` replace keys, ``training`` is merged."""
    training = {
        "epochs": 4,
        "samples_full": 4000,
        "samples_seen": 4000,
        "pruning_rate": 0.0,
        "seconds": 200.0,
        "data_seconds": 5.0,
        "pruning_seconds": 0.0,
        "samples_per_second": 20.0,
        "peak_memory_bytes": 10**8,
        "final_loss": 1.0,
        "attempts": 1,
        "by_epoch": epochs([1000] * 4),
    }
    made = {
        "schema": 1,
        "sweep": "tiny",
        "run": f"clip-vit-shapes-{method}-s{seed}-abc123",
        "config": {
            "train": {"epochs": 4, "num_workers": 2},
            "model": {"name": "vit", "options": {}},
            "evaluate": [],
        },
        "framework": "clip",
        "model": "vit",
        "pool": "shapes",
        "method": method,
        "seed": seed,
        "code": {"git_sha": "0123456789abcdef", "dirty": False},
        "versions": {"python": "3.11.2", "torch": "2.11.0"},
        "device": "cpu",
        "num_ranks": 1,
        "started": "2025-01-01T00:00:00+00:00",
        "finished": "2025-01-01T01:00:00+00:00",
        "pool_facts": {"num_samples": 1000, "fingerprint": "f1f2f3f4", "skipped": {}},
        "metrics": [metric(0.6)],
        "evaluation_skipped": [],
        "pruning_truth": [],
    }
    return {**made, **changes, "training": {**training, **changes.get("training", {})}}


def put(results: Path, *records: dict[str, Any]) -> None:
    """Write each record into its run's folder."""
    for one in records:
        write_record(results / one["sweep"] / one["run"] / RECORD_FILE, one)


def put_foreign(results: Path, folder: str = "openai", **changes: Any) -> Path:
    """Write the evaluation of a model that was not trained here; ``changes`` replace keys."""
    told = record()
    made = {key: told[key] for key in ("schema", "code", "versions", "device", "started", "finished", "metrics")}
    made |= {
        "kind": "evaluation",
        "model": "ViT-B-32",
        "pretrained": "openai",
        "weights": "sha256:abcdef0123456789",
    }
    path = results / "evaluations" / folder / EVALUATION_FILE
    write_evaluation(path, {**made, "evaluate": [], "evaluation_skipped": [], **changes})
    return path


def plan(results: Path, *runs: dict[str, Any], sweep: str = "tiny", **changes: Any) -> None:
    """Write the sweep's plan of the given records' runs; ``changes`` adds keys."""
    keys = ("run", "framework", "model", "pool", "method", "seed")
    content = {"sweep": sweep, "command": COMMAND, "runs": [{key: run[key] for key in keys} for run in runs]}
    content |= changes
    (results / sweep).mkdir(parents=True, exist_ok=True)
    (results / sweep / PLAN_FILE).write_text(json.dumps(content), encoding="utf-8")


def fail(results: Path, run: dict[str, Any], message: str) -> None:
    """Leave the error of a run that failed."""
    folder = results / run["sweep"] / run["run"]
    folder.mkdir(parents=True)
    error = {"type": "RuntimeError", "message": message, "traceback": "…", "time": "2025-01-01T00:00:00+00:00"}
    (folder / "error.json").write_text(json.dumps(error), encoding="utf-8")
