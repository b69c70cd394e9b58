"""What a job does, from wherever it stands: train, leave a record, evaluate; or compute features, or choose."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmark import dist
from benchmark.config.choice_pass import ChoiceConfig
from benchmark.config.evaluation import EvaluationConfig
from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.job import JobConfig, load_config
from benchmark.config.run import Choice, RunConfig
from benchmark.evaluate import run as evaluation
from benchmark.evaluate.cache import cache_of
from benchmark.evaluate.means import Means
from benchmark.evaluate.pending import pending
from benchmark.job import choice_pass, feature_pass
from benchmark.job.leave import leave
from benchmark.models.frameworks import example_bytes, make_objective
from benchmark.options import ConfigError
from benchmark.pool.cache import CachedPool
from benchmark.pool.held_out import held_out_pool
from benchmark.pool.source import make_source
from benchmark.pruner import make_pruner
from benchmark.runs.attempts import count_saved
from benchmark.runs.folder import RunFolder
from benchmark.runs.provenance import facts
from benchmark.runs.record import read_record
from benchmark.slurm import this_job
from benchmark.training.loader import check_shared_memory
from benchmark.training.order import ahead_bytes
from benchmark.training.trainer import Trainer


def work(folder: RunFolder, report: Callable[[float, str], None], started: str) -> None:
    """Train to the end, leave the record and evaluate into it (or compute features, or choose).

    Rank 0 alone writes the record. Raises signals.Stopped if a signal asked for it.
    """
    config = load_config(folder.config)
    if isinstance(config, FeatureConfig):
        _set_threads(config)
        feature_pass.compute(folder, config, report)
        return
    if isinstance(config, ChoiceConfig):
        _set_threads(config)
        choice_pass.choose(folder, config, report, started)
        return
    if isinstance(config, EvaluationConfig):
        run = RunFolder(folder.parent / config.run.name)
        more = dist.broadcast(pending(run, config.run) if dist.rank() == 0 else None)
        if more is None:
            raise ConfigError(f"{run}: no record and final weights to evaluate; it has to be trained first")
        _evaluate(run, replace(config.run, launch=config.launch), more, report, started, folder)
        return
    more = dist.broadcast(pending(folder, config) if dist.rank() == 0 else None)
    if has_to_train := more is None:
        if dist.rank() == 0:
            evaluation.tell_what_will_be_skipped(config.evaluate)
        trained = _train(folder, config, report)
        if dist.rank() == 0:
            leave(folder, config, *trained, started)
        del trained  # the evaluation has the memory for itself
        dist.meet()
        more = list(config.evaluate)
    if more and not config.launch.evaluate:
        _evaluate(folder, config, more, report, started, folder, has_trained=has_to_train)


def _evaluate(
    folder: RunFolder,
    config: RunConfig,
    choices: Sequence[Choice],
    report: Callable[[float, str], None],
    started: str,
    job: RunFolder,
    has_trained: bool = False,
) -> None:
    """Measure the final weights of the run in ``folder``, all ranks together; a task that is done is recorded.

    ``job`` is the folder of the job that does it, ``has_trained`` whether it has just ended the training.
    """
    _set_threads(config)
    device = dist.pick_device(config.train.device)
    objective = evaluation.load_model(folder, config).to(device)
    evaluation.check_weights(read_record(folder.record), folder.record, objective)
    means = Means(num_workers=config.train.num_workers, folder=folder.evaluating, saved=lambda: count_saved(job))

    def told(_: float, text: str) -> None:
        report(1.0, f"evaluating: {text}")  # the bar of a run stays full: what is shown is the task

    for found in evaluation.each(choices, objective.encoder(), cache_of(folder), told, means):
        if dist.rank() == 0:
            evaluation.extend_record(folder, config, found, objective, facts(started, device), has_trained)
            count_saved(job)
            shutil.rmtree(folder.evaluating, ignore_errors=True)


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
