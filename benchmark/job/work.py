"""What a run does, from wherever it stands: train, evaluate, leave a record; or compute features, or choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmark import dist, signals
from benchmark.config.choice_pass import ChoiceConfig
from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.job import JobConfig, load_config
from benchmark.config.run import Choice, RunConfig
from benchmark.evaluate import run as evaluation
from benchmark.evaluate.cache import cache_of
from benchmark.evaluate.pending import pending
from benchmark.evaluate.run import Outcome
from benchmark.job import choice_pass, feature_pass
from benchmark.job.leave import leave_coreset, leave_pruned, record_of
from benchmark.models import weights_file
from benchmark.models.frameworks import example_bytes, make_objective
from benchmark.models.objective import Objective
from benchmark.options import plain
from benchmark.pool.cache import CachedPool
from benchmark.pool.held_out import held_out_pool
from benchmark.pool.source import make_source
from benchmark.pruner import make_pruner
from benchmark.runs.folder import RunFolder
from benchmark.runs.provenance import facts
from benchmark.runs.record import read_record, write_record
from benchmark.slurm import this_job
from benchmark.tracking.epoch_files import check_files
from benchmark.training.loader import check_shared_memory
from benchmark.training.order import ahead_bytes
from benchmark.training.trainer import Trainer


def work(folder: RunFolder, report: Callable[[float, str], None], started: str) -> None:
    """Train to the end, evaluate and leave the record (or compute features, or choose); rank 0 alone writes it."""
    config = load_config(folder.config)
    if isinstance(config, FeatureConfig):
        _set_threads(config)
        feature_pass.compute(folder, config, report)
        return
    if isinstance(config, ChoiceConfig):
        _set_threads(config)
        choice_pass.choose(folder, config, report, started)
        return
    more = dist.broadcast(pending(folder, config) if dist.rank() == 0 else None)
    if more is not None:
        if more and dist.rank() == 0:
            _set_threads(config)
            _evaluate_more(folder, config, more, report, started)
        return
    if dist.rank() == 0:
        evaluation.tell_what_will_be_skipped(config.evaluate)
    trainer, training = _train(folder, config, report)
    if dist.rank() != 0:
        return
    check_files(folder, trainer.now.files)
    leave_coreset(folder, config, trainer, training)
    leave_pruned(folder, config, trainer)
    trainer.faults.write(folder)
    signals.stop_if_asked()
    report(1.0, "evaluating")
    weights_file.save_weights(folder.final_weights, trainer.objective)
    found = _evaluate(folder, config.evaluate, trainer.objective, report)
    evaluation.leave_predictions(folder, found)
    record = record_of(config, started, trainer, training)
    evaluated = {
        "metrics": found.rows,
        "evaluation_skipped": found.skipped,
        "evaluation_seconds": [
            {"task": choice.name, "options": plain(choice.options), "seconds": seconds}
            for choice, seconds in zip(found.evaluated, found.seconds, strict=True)
        ],
    }
    write_record(folder.record, {**record, **evaluated})


def _evaluate_more(
    folder: RunFolder,
    config: RunConfig,
    choices: Sequence[Choice],
    report: Callable[[float, str], None],
    started: str,
) -> None:
    """Add evaluations to the record of a run whose final weights are there."""
    device = dist.pick_device(config.train.device)
    objective = evaluation.load_model(folder, config).to(device)
    evaluation.check_weights(read_record(folder.record), folder.record, objective)
    found = _evaluate(folder, choices, objective, report)
    evaluation.extend_record(folder, config, found, objective, facts(started, device))


def _evaluate(
    folder: RunFolder, choices: Sequence[Choice], objective: Objective, report: Callable[[float, str], None]
) -> Outcome:
    """The bar of a run stays full: what is shown is the task."""
    return evaluation.evaluate(
        choices, objective.encoder(), cache_of(folder), lambda _, text: report(1.0, f"evaluating: {text}")
    )


def _set_threads(config: JobConfig) -> None:
    if not torch.cuda.is_available():
        torch.set_num_threads(config.launch.cpus)


def _train(
    folder: RunFolder, config: RunConfig, report: Callable[[float, str], None]
) -> tuple[Trainer, dict[str, Any]]:
    _set_threads(config)
    pruner = make_pruner(config.pruner, "pruner")
    pruner.runs_folder = folder.parent
    example = example_bytes(config.framework, config.model)
    check_shared_memory(ahead_bytes(config.train, config.launch, pruner.super_batch, example))
    with dist.rank_zero_first():  # opening a pool may index its shards
        pool = make_source(config.pool, "pool").training_pool()
    if config.train.image_cache_mb:
        ranks_here = dist.gather_objects(this_job.node()).count(this_job.node())
        readers = ranks_here * max(1, config.train.num_workers)
        pool = CachedPool(pool, config.train.image_cache_mb * 10**6 // readers)
    found, choice = {}, None
    if config.features:
        with dist.rank_zero_first():  # which verifies them for the others
            found = feature_pass.load(RunFolder(folder.parent / config.features), pool.fingerprint)
    if config.choice:
        choice = choice_pass.load(RunFolder(folder.parent / config.choice), config.choice, pool.fingerprint)
    objective, reference = make_objective(config.framework, config.model, config.seed), None
    if pruner.reference_data is not None:
        with dist.rank_zero_first():
            reference = held_out_pool(
                pruner.reference_data,
                "pruner.reference",
                with_text=objective.has_text,
                at_least=config.train.batch_size,
            )
    trainer = Trainer(
        folder,
        config.train,
        config.seed,
        pool,
        objective,
        pruner,
        dist.pick_device(config.train.device),
        report,
        features=found,
        choice=choice,
        reference=reference,
        boards=config.log,
    )
    return trainer, trainer.fit()
