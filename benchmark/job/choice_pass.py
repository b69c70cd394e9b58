"""A static method's choice by features: made once, by one rank, and read by every run that trains on it.

It stands as the method's state, which is what a checkpoint holds too, and as a coreset for anybody else.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmark import dist, signals, states
from benchmark.config.choice_pass import ChoiceConfig
from benchmark.coreset.coreset import Coreset, CoresetError, save_coreset
from benchmark.files import sealed, sha256_of, unsealed, write_atomic, write_text
from benchmark.job import feature_pass
from benchmark.options import plain
from benchmark.pool.source import make_source
from benchmark.pruner import State, make_pruner, plan_of
from benchmark.runs.folder import RunFolder
from benchmark.runs.provenance import facts
from benchmark.training.progress import peak_memory_bytes


def choose(folder: RunFolder, config: ChoiceConfig, report: Callable[[float, str], None], started: str) -> None:
    """Leave the method's state, its coreset and ``choice.json`` in ``folder``; further ranks have nothing to do.

    A signal ends it at once, and it starts again from the beginning. Raises signals.Stopped then, PoolError for
    features that are not those of the pool, and PlanError for a method that breaks its contract.
    """
    if dist.rank() != 0:
        return
    clock, device = time.perf_counter(), dist.pick_device(config.device)
    report(0.0, "choosing")
    pruner = make_pruner(config.pruner, "pruner")
    pruner.runs_folder = folder.parent
    with signals.at_once():
        pool = make_source(config.pool, "pool").training_pool()
        source = RunFolder(folder.parent / config.features)
        found = feature_pass.load(source, pool.fingerprint)
        view = pool.view(pruner.needs, found, pruner.uses_truth)
        pruner.setup(view, num_epochs=config.num_epochs, seed=config.seed)
        keep, score = plan_of(pruner, 0).keep, pruner.ranking(iter(()))
        state = states.to_tensors(pruner.state_dict())
    write_atomic(folder.choice_state, lambda file: torch.save(state, file))
    coreset = Coreset(keep, pool.fingerprint, config.label, config.seed, made_by=config.name, score=score)
    save_coreset(folder.coreset, coreset)
    told = {
        "schema": 1,
        "choice": config.name,
        "config": plain(dataclasses.asdict(config)),
        **facts(started, device),
        "seconds": round(time.perf_counter() - clock, 3),
        "peak_memory_bytes": peak_memory_bytes(device),
        "fingerprint": pool.fingerprint,
        "num_samples": pool.num_samples,
        "kept": int(keep.sum()),
        "features": {name: feature_pass.read_facts(source)["arrays"][name] for name in pruner.needs},
        "files": {path.name: sha256_of(path) for path in (folder.choice_state, folder.coreset)},
    }
    write_text(folder.choice, json.dumps(sealed(told), indent=1, sort_keys=True) + "\n")


def load(folder: RunFolder, name: str, fingerprint: str) -> State:
    """The state of the method that made the choice ``name``. Raises CoresetError that says what is wrong."""
    home = folder.trained_in
    advice = f"move {home} away to have it made again"
    try:
        told: dict[str, Any] = unsealed(json.loads(home.choice.read_text(encoding="utf-8")))
        made, of_pool, digest = told["choice"], told["fingerprint"], told["files"][home.choice_state.name]
        is_whole = sha256_of(home.choice_state) == digest
    except FileNotFoundError as error:
        raise CoresetError(f"{error.filename}: no such file; the choice has not been made yet") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CoresetError(f"{home.choice}: cannot be read ({error}); {advice}") from error
    if made != name:
        raise CoresetError(f"{home.choice}: it is {made}, not {name}: move it to where it belongs")
    if of_pool != fingerprint:
        raise CoresetError(f"{home}: chosen from pool {of_pool}, but this pool is {fingerprint}")
    if not is_whole:
        raise CoresetError(
            f"{home.choice_state}: not as it was left (another SHA-256 than in {home.choice.name}); {advice}"
        )
    return dict(states.to_arrays(torch.load(home.choice_state, weights_only=True)))
