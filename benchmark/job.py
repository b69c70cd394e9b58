"""A job: everything it needs it reads from its run's folder when it starts, everything it leaves lies there.

``python -m benchmark.job FOLDER`` works on one run without submitit, also under ``torchrun``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmark import checkpoint, dist, evaluation, features, peers, requeue, signals, slurmjob
from benchmark.attempts import ATTEMPT_MARK, attempt, attempts_of
from benchmark.config import Choice, RunConfig
from benchmark.coreset import Coreset, least, load_marks, save_coreset
from benchmark.evaluate._cache import cache_of
from benchmark.evaluation import Outcome
from benchmark.featureconfig import FeatureConfig, JobConfig, load_config
from benchmark.files import write_text
from benchmark.frameworks import make_objective
from benchmark.image_cache import CachedPool
from benchmark.lease import HeldError, lease
from benchmark.objective import Objective
from benchmark.options import plain
from benchmark.pool import Pool, make_source
from benchmark.provenance import facts, now
from benchmark.pruned import PRUNED_FILE, write_pruned
from benchmark.pruner import StaticPruner, make_pruner
from benchmark.record import (
    CONFIG_FILE,
    CORESET_FILE,
    RECORD_FILE,
    SCHEMA_VERSION,
    STARTED_FILE,
    RecordError,
    read_record,
    write_record,
)
from benchmark.state import LEASE_FILE, has_new_error, state_at_rest, write_error
from benchmark.summaries import summarise
from benchmark.train import NEVER, Trainer
from benchmark.weights import weights_hash

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What submitit pickles: a folder's name and nothing else."""

    folder: str

    def __call__(self) -> str:
        """Work on the run in this process and its fellow ranks; ``done`` or ``held``.

        Raises SystemExit if a signal stopped it, after its job has been queued again where that was asked for.
        """
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
        folder = Path(self.folder)
        with signals.listening() as sock:  # in place of submitit's handlers
            is_first = False
            try:
                with dist.process_group(folder / "job"):
                    is_first = dist.rank() == 0
                    with requeue.last_resort(folder, sock if is_first else None, _patience_seconds(folder)):
                        return run(folder)
            except signals.Stopped as stopped:
                # the others go without a word: rank 0's code is the job's, and a bad one would end rank 0 too soon
                raise SystemExit(requeue.leave(folder, stopped.how) if is_first else 0) from None

    def checkpoint(self) -> Any:
        """For a signal that comes before ours are listened to; the run's own checkpoints say where to go on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run(folder: Path, report: Callable[[float, str], None] = NEVER) -> str:
    """Bring the run in ``folder`` to its record, from wherever it stands; return what happened in a word.

    ``done`` (also if it was before) or ``held`` (another process works on it). Any error is written to the
    folder's ``error.json`` and raised. Raises signals.Stopped if a signal asked for it.
    """
    with ExitStack() as held:
        started = now()
        verdict = _verdict(folder, held) if dist.rank() == 0 else ""
        if verdict == "go":  # before any rank works: a rank's error is then newer
            write_text(folder / STARTED_FILE, json.dumps({"time": started, "pid": os.getpid()}) + "\n")
        verdict = dist.broadcast(verdict)  # ranks start together or not at all
        if verdict != "go":
            return verdict
        try:
            with peers.watched(folder), _attempt(folder):
                _work(folder, report, started)
        except signals.Stopped:
            raise
        except Exception as error:
            if dist.world() == 1:
                write_error(folder, error)
            elif not has_new_error(folder):  # else another rank failed first, and this one for want of it
                write_error(folder, error, f"rank {dist.rank()} of {dist.world()}: ")
            raise
        return "done"


def _attempt(folder: Path) -> AbstractContextManager[Any]:
    """Rank 0 notes the attempt in the run's folder, and marks in the log where its words begin."""
    if dist.rank() != 0:
        return nullcontext()
    config = load_config(folder / CONFIG_FILE)
    logger.info(
        "%s %d of %s, job %s on %s: %d ranks, this one with %d CPUs",
        ATTEMPT_MARK,
        len(attempts_of(folder)) + 1,
        config.name,
        slurmjob.job_id(),
        slurmjob.node(),
        dist.world(),
        len(os.sched_getaffinity(0)),
    )
    return attempt(folder, config.launch.memory_gb)


def _patience_seconds(folder: Path) -> float:
    """Half of what SLURM leaves between its signal and the end, but time for a step."""
    try:
        return max(10.0, load_config(folder / CONFIG_FILE).launch.warning_seconds / 2)
    except ValueError:  # the run itself says what is wrong
        return 0.0


def _verdict(folder: Path, held: ExitStack) -> str:
    """``go`` with the lease held, or why there is nothing to do."""
    try:
        held.enter_context(lease(folder / LEASE_FILE, beats=True))
        state = state_at_rest(folder, load_config(folder / CONFIG_FILE))
    except HeldError as error:
        logger.warning("%s; leaving it alone", error)
        return "held"
    except ValueError as error:
        write_error(folder, error)
        raise
    if state.name == "unreadable":  # somebody's result: never written over
        raise RecordError(state.detail)
    return "done" if state.name == "done" and not (state.is_incomplete and _can_go_on(folder)) else "go"


def _can_go_on(folder: Path) -> bool:
    """Whether an evaluation that was skipped for want of data can be made up for now."""
    config = load_config(folder / CONFIG_FILE)
    return isinstance(config, RunConfig) and bool(evaluation.pending(folder, config))


def _work(folder: Path, report: Callable[[float, str], None], started: str) -> None:
    """Train to the end, evaluate and leave the record (or compute features); only rank 0 writes a record."""
    config = load_config(folder / CONFIG_FILE)
    if isinstance(config, FeatureConfig):
        _set_threads(config)
        features.compute(folder, config, report)
        return
    more = evaluation.pending(folder, config)
    if more is not None:
        if more and dist.rank() == 0:
            _set_threads(config)
            _evaluate_more(folder, config, more, report, started)
        return
    trainer, training = _train(folder, config, report)
    if dist.rank() != 0:
        return
    _leave_coreset(folder, config, trainer, training)
    _leave_pruned(folder, config, trainer)
    trainer.faults.write(folder)
    signals.stop_if_asked()
    report(1.0, "evaluating")
    checkpoint.save_weights(folder / "checkpoint", trainer.objective)
    found = _evaluate(folder, config.evaluate, trainer.objective, report)
    evaluation.leave_predictions(folder, found)
    record = _record(config, started, trainer, training)
    write_record(folder / RECORD_FILE, {**record, "metrics": found.rows, "evaluation_skipped": found.skipped})


def _evaluate_more(
    folder: Path, config: RunConfig, choices: Sequence[Choice], report: Callable[[float, str], None], started: str
) -> None:
    """Add evaluations to the record of a run whose final weights are there."""
    device = dist.pick_device(config.train.device)
    objective = evaluation.load_model(folder, config).to(device)
    evaluation.check_weights(read_record(folder / RECORD_FILE), folder / RECORD_FILE, objective)
    found = _evaluate(folder, choices, objective, report)
    evaluation.extend_record(folder, config, found, objective, facts(started, device))


def _evaluate(
    folder: Path, choices: Sequence[Choice], objective: Objective, report: Callable[[float, str], None]
) -> Outcome:
    """The bar of a run stays full: what is shown is the task."""
    return evaluation.evaluate(
        choices, objective.encoder(), cache_of(folder), lambda _, text: report(1.0, f"evaluating: {text}")
    )


def _set_threads(config: JobConfig) -> None:
    if not torch.cuda.is_available():
        torch.set_num_threads(config.launch.cpus)


def _train(
    folder: Path, config: RunConfig, report: Callable[[float, str], None]
) -> tuple[Trainer, dict[str, Any]]:
    _set_threads(config)
    with dist.rank_zero_first():  # opening a pool may index its shards
        pool = make_source(config.pool, "pool").training_pool()
    if config.train.image_cache_mb:
        ranks_here = dist.gather_objects(slurmjob.node()).count(slurmjob.node())
        readers = ranks_here * max(1, config.train.num_workers)
        pool = CachedPool(pool, config.train.image_cache_mb * 10**6 // readers)
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


def _leave_pruned(folder: Path, config: RunConfig, trainer: Trainer) -> None:
    visits = trainer.trackers.visits
    if not visits.is_whole:
        logger.warning("the run began before visits were counted: it leaves no %s", PRUNED_FILE)
        return
    epochs, pool, pruner = config.train.epochs, trainer.pool, trainer.pruner
    write_pruned(
        folder / PRUNED_FILE, summarise(folder, epochs, config.seed, pool, pruner, trainer.trackers.visits)
    )


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
        "pruning_truth": trainer.trackers.truth.rows(trainer.pruner.candidates()),
    }


def main(words: Sequence[str] | None = None) -> int:
    """0 if the run is done, 1 if another process holds it; exits with requeue.STOPPED if a signal stopped it."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.job", description="Work on one planned run.")
    parser.add_argument("folder", help="the run's folder, which holds its config.yaml")
    verdict = Job(parser.parse_args(words).folder)()
    return 0 if verdict == "done" else 1


if __name__ == "__main__":
    sys.exit(main())
