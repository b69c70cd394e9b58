"""A job: everything it needs it reads from its run's folder when it starts, everything it leaves lies there.

``python -m benchmark.job FOLDER`` works on one run without submitit, also under ``torchrun``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmark import checkpoint, dist, features, snapshot
from benchmark.config import RunConfig
from benchmark.coreset import Coreset, least, load_marks, save_coreset
from benchmark.evaluate import make_task
from benchmark.featureconfig import FeatureConfig, JobConfig, load_config
from benchmark.files import write_text
from benchmark.frameworks import make_objective
from benchmark.lease import HeldError, lease
from benchmark.objective import Objective
from benchmark.options import plain
from benchmark.pool import Pool, PoolError, make_source
from benchmark.pruner import StaticPruner, make_pruner
from benchmark.record import (
    CONFIG_FILE,
    CORESET_FILE,
    RECORD_FILE,
    SCHEMA_VERSION,
    STARTED_FILE,
    RecordError,
    write_record,
)
from benchmark.state import LEASE_FILE, has_new_error, state_at_rest, write_error
from benchmark.train import NEVER, Trainer

logger = logging.getLogger(__name__)
PACKAGES = ("torch", "torchvision", "open_clip_torch", "timm", "scikit-learn", "numpy")


@dataclass(frozen=True)
class Job:
    """What submitit pickles: a folder's name and nothing else."""

    folder: str

    def __call__(self) -> str:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
        with dist.process_group(Path(self.folder) / "job"):
            return run(Path(self.folder))

    def checkpoint(self) -> Any:
        """Called by submitit before a requeue; the run's own checkpoints say where to go on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run(folder: Path, report: Callable[[float, str], None] = NEVER) -> str:
    """Bring the run in ``folder`` to its record, from wherever it stands; return what happened in a word.

    ``done`` (also if it was before) or ``held`` (another process works on it). Any error is written to the
    folder's ``error.json`` and raised.
    """
    with ExitStack() as held:
        started = _now()
        verdict = _verdict(folder, held) if dist.rank() == 0 else ""
        if verdict == "go":  # before any rank works: a rank's error is then newer
            write_text(folder / STARTED_FILE, json.dumps({"time": started, "pid": os.getpid()}) + "\n")
        verdict = dist.broadcast(verdict)  # ranks start together or not at all
        if verdict != "go":
            return verdict
        try:
            _work(folder, report, started)
        except Exception as error:
            if dist.world() == 1:
                write_error(folder, error)
            elif not has_new_error(folder):  # else another rank failed first, and this one for want of it
                write_error(folder, error, f"rank {dist.rank()} of {dist.world()}: ")
            raise
        return "done"


def _verdict(folder: Path, held: ExitStack) -> str:
    """``go`` with the lease held, or why there is nothing to do."""
    try:
        held.enter_context(lease(folder / LEASE_FILE))
        state = state_at_rest(folder, load_config(folder / CONFIG_FILE))
    except HeldError as error:
        logger.warning("%s; leaving it alone", error)
        return "held"
    except ValueError as error:
        write_error(folder, error)
        raise
    if state.name == "unreadable":  # somebody's result: never written over
        raise RecordError(state.detail)
    return "done" if state.name == "done" else "go"


def _work(folder: Path, report: Callable[[float, str], None], started: str) -> None:
    """Train to the end, evaluate and leave the record (or compute features); only rank 0 writes a record."""
    config = load_config(folder / CONFIG_FILE)
    if isinstance(config, FeatureConfig):
        _set_threads(config)
        features.compute(folder, config, report)
        return
    trainer, training = _train(folder, config, report)
    if dist.rank() != 0:
        return
    _leave_coreset(folder, config, trainer, training)
    trainer.faults.write(folder)
    report(1.0, "evaluating")
    metrics, skipped = _evaluate(config, trainer.objective)
    checkpoint.save_weights(folder / "checkpoint", trainer.objective)
    record = _record(config, started, trainer, training)
    write_record(folder / RECORD_FILE, {**record, "metrics": metrics, "evaluation_skipped": skipped})


def _set_threads(config: JobConfig) -> None:
    if not torch.cuda.is_available():
        torch.set_num_threads(config.launch.cpus)


def _train(
    folder: Path, config: RunConfig, report: Callable[[float, str], None]
) -> tuple[Trainer, dict[str, Any]]:
    _set_threads(config)
    with dist.rank_zero_first():  # opening a pool may index its shards
        pool = make_source(config.pool, "pool").training_pool()
    pruner = make_pruner(config.pruner, "pruner")
    pruner.runs_folder = folder.parent
    found = features.load(folder.parent / config.features, pool.fingerprint) if config.features else {}
    trainer = Trainer(
        folder,
        config.train,
        config.seed,
        pool,
        make_objective(config.framework, config.model, config.seed),
        pruner,
        dist.pick_device(config.train.device),
        report,
        features=found,
    )
    return trainer, trainer.fit()


def _leave_coreset(folder: Path, config: RunConfig, trainer: Trainer, training: dict[str, Any]) -> None:
    """Of a static method its choice; of one that ranks, its order, cut to as many samples as the run saw."""
    pruner, pool = trainer.pruner, trainer.pool
    score = pruner.ranking(load_marks(folder, pool.num_samples))
    if isinstance(pruner, StaticPruner):
        keep = pruner.plan(0).keep
    elif score is not None:
        count = round(pool.num_samples * training["samples_seen"] / training["samples_full"])
        keep = least(score, count, config.seed)
    else:
        return
    coreset = Coreset(keep, pool.fingerprint, config.method, config.seed, made_by=config.name, score=score)
    save_coreset(folder / CORESET_FILE, coreset)


def _evaluate(config: RunConfig, objective: Objective) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of metrics, and the tasks that could not run for want of data, with the reason."""
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    encoder = objective.encoder()
    for choice in config.evaluate:
        try:
            rows += [metric.row() for metric in make_task(choice, "evaluate").run(encoder)]
        except PoolError as error:
            logger.warning("%s skipped: %s", choice.name, error)
            skipped.append({"task": choice.name, "reason": str(error)})
    return rows, skipped


def _record(config: RunConfig, started: str, trainer: Trainer, training: dict[str, Any]) -> dict[str, Any]:
    pool: Pool = trainer.pool
    return {
        "schema": SCHEMA_VERSION,
        "sweep": config.sweep,
        "run": config.name,
        "config": plain(dataclasses.asdict(config)),
        "framework": config.framework,
        "model": config.model.name,
        "pool": config.pool_label,
        "method": config.method,
        "seed": config.seed,
        "code": snapshot.facts(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "device": _device_name(trainer.device),
        "num_ranks": dist.world(),
        "started": started,
        "finished": _now(),
        "pool_facts": {
            "num_samples": pool.num_samples,
            "fingerprint": pool.fingerprint,
            "skipped": trainer.faults.counts(),
        },
        "training": training,
        "pruning_truth": trainer.truth.rows(trainer.pruner.candidates()),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        models = []
    name = models[0].split(":", 1)[1].strip() if models else platform.processor() or platform.machine()
    return f"{name} ({torch.get_num_threads()} threads)"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def main(words: Sequence[str] | None = None) -> int:
    """0 if the run is done, 1 if another process holds it."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.job", description="Work on one planned run.")
    parser.add_argument("folder", help="the run's folder, which holds its config.yaml")
    verdict = Job(parser.parse_args(words).folder)()
    return 0 if verdict == "done" else 1


if __name__ == "__main__":
    sys.exit(main())
