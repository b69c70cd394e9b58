"""What a method's epochs are like, before any run: it plans them for a small pool with made-up losses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmark.config.run import Choice
from benchmark.pool.samples import PoolView
from benchmark.pruner import Pruner, StaticPruner, make_pruner
from benchmark.seeds import generator

SAMPLES, BATCH = 2000, 100
"""Of the pool that the plans are asked for."""


@dataclass(frozen=True)
class Schedule:
    """A method's epochs, as far as they can be told without data."""

    share: float | None
    """Of the samples of full data that it visits in all; None if only data can tell."""
    kinds: frozenset[tuple[bool, bool, bool]] = frozenset()
    """The kinds of its epochs: whether they observe, leave samples out, choose from larger batches; none if only
    data can tell."""


def schedule_of(choice: Choice, epochs: int) -> Schedule:
    """Of ``epochs`` epochs, with losses that stay as they are but for noise: a warm-up by loss then ends soon."""
    return _schedule(choice.name, json.dumps(choice.options, sort_keys=True), epochs)


@lru_cache(maxsize=1024)
def _schedule(name: str, options: str, epochs: int) -> Schedule:
    pruner = make_pruner(Choice(name=name, options=json.loads(options)), "pruner")
    if isinstance(pruner, StaticPruner):  # what it needs to choose is not there, but it says how much
        return Schedule(getattr(pruner, "keep_fraction", None), frozenset({(False, True, False)}))
    try:
        return _simulated(pruner, epochs)
    except Exception:  # a method may refuse what is made up in any way: then the rehearsal alone tells
        return Schedule(None)


def _simulated(pruner: Pruner, epochs: int) -> Schedule:
    rng = generator(0, "simulated losses")
    features = {name: rng.standard_normal((SAMPLES, 16)).astype(np.float16) for name in pruner.needs}
    pruner.setup(PoolView(SAMPLES, "simulated", features), num_epochs=epochs, seed=0)
    level = rng.lognormal(0.0, 0.5, (SAMPLES, 1))  # the directions of a pair agree, as they do in training
    seen, kinds = 0.0, set()
    for epoch in range(epochs):
        plan = pruner.plan(epoch)
        if plan.observe and pruner.reference_data is not None:
            pruner.observe_reference(epoch, 1.0)
        order = rng.permutation(np.flatnonzero(plan.keep))
        read = round(BATCH * plan.super_batch)
        batches = order[: len(order) // read * read].reshape(-1, read)[:, :BATCH]
        for ids in batches if plan.observe else ():
            pruner.observe(ids, (level[ids] * rng.lognormal(0.0, 0.01, (BATCH, 2))).astype(np.float32))
        pruner.end_epoch(epoch)
        seen += np.count_nonzero(plan.keep) / plan.super_batch
        kinds.add((plan.observe, not plan.keep.all(), plan.super_batch != 1))
    return Schedule(seen / (SAMPLES * epochs), frozenset(kinds))
