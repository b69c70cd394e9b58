"""What a trained run leaves beside its weights: coreset, pruned samples, record."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from benchmark import dist
from benchmark.config.run import RunConfig
from benchmark.coreset.coreset import Coreset, least, save_coreset
from benchmark.models import weights_file
from benchmark.models.fingerprints import weights_hash
from benchmark.options import plain
from benchmark.pool.samples import Pool
from benchmark.pruner import StaticPruner
from benchmark.runs.folder import RunFolder
from benchmark.runs.provenance import facts
from benchmark.runs.pruned import write_pruned
from benchmark.runs.record import SCHEMA_VERSION, write_record
from benchmark.tracking.epoch_files import check_files, load_marks
from benchmark.tracking.summary import summarise
from benchmark.training.trainer import Trainer

logger = logging.getLogger(__name__)


def leave(folder: RunFolder, config: RunConfig, trainer: Trainer, training: dict[str, Any], started: str) -> None:
    """All that the run leaves but its evaluation: the record, last, knows of no task yet."""
    check_files(folder, trainer.now.files)
    _leave_coreset(folder, config, trainer, training)
    _leave_pruned(folder, config, trainer)
    trainer.faults.write(folder)
    weights_file.save_weights(folder.final_weights, trainer.objective)
    write_record(folder.record, _record_of(config, started, trainer, training))


def _leave_coreset(folder: RunFolder, config: RunConfig, trainer: Trainer, training: dict[str, Any]) -> None:
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
    save_coreset(folder.coreset, coreset)


def _leave_pruned(folder: RunFolder, config: RunConfig, trainer: Trainer) -> None:
    visits = trainer.trackers.visits
    if not visits.is_whole:
        logger.warning("the run began before visits were counted: it leaves no pruned.npz")
        return
    epochs, pool, pruner = config.train.epochs, trainer.pool, trainer.pruner
    write_pruned(folder.pruned, summarise(folder, epochs, config.seed, pool, pruner, trainer.trackers.visits))


def _record_of(config: RunConfig, started: str, trainer: Trainer, training: dict[str, Any]) -> dict[str, Any]:
    pool: Pool = trainer.pool
    return {
        "schema": SCHEMA_VERSION,
        "sweep": config.sweep,
        "run": config.name,
        "config": plain({**dataclasses.asdict(config), "evaluate": []}),  # of which the record has rows
        "framework": config.framework,
        "model": config.model.name,
        "pool": config.pool_label,
        "method": config.method,
        "family": trainer.pruner.family,
        "seed": config.seed,
        **facts(started, trainer.device),
        "num_ranks": dist.world(),
        "weights": weights_hash(trainer.objective),
        "pool_facts": {
            "num_samples": pool.num_samples,
            "fingerprint": pool.fingerprint,
            "skipped": trainer.faults.counts(),
        },
        "training": training,
        "metrics": [],
        "evaluation_skipped": [],
        "evaluation_seconds": [],
        "pruning_truth": trainer.trackers.truth.rows(trainer.pruner.candidates()),
    }
