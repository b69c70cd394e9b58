"""Data that runs will ask for, looked for at the desk: an absent folder is not worth hours in a queue."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.run import Choice, RunConfig
from benchmark.evaluate.task import make_task
from benchmark.models.frameworks import has_text
from benchmark.options import ConfigError, plain
from benchmark.plan.plan import PlannedRun
from benchmark.pool.held_out import held_out_pool
from benchmark.pool.samples import PoolError
from benchmark.pool.source import data_set, make_source
from benchmark.pruner import make_pruner


def absent_data(runs: Sequence[PlannedRun]) -> tuple[list[str], list[str]]:
    """What is not on this machine of all that ``runs`` cannot do without, and of what they would leave out.

    Each is a line that says how to get it, and of how many runs. Sets are opened once; tar shards are not indexed.
    """
    needed: dict[str, list[str]] = defaultdict(list)
    left_out: dict[str, list[str]] = defaultdict(list)
    known: dict[str, str] = {}
    for run in runs:
        for into, checks in ((needed, _needed(run)), (left_out, _evaluated(run))):
            for what, key, check in checks:
                if key not in known:
                    known[key] = _problem(check)
                if known[key]:
                    into[f"{what}: {known[key]}"].append(run.config.name)
    return _lines(needed), _lines(left_out)


Check = tuple[str, str, Callable[[], Any]]
"""What is looked for, what tells it from others, and opening it."""


def _needed(run: PlannedRun) -> Iterator[Check]:
    config = run.config
    if run.state.is_incomplete:  # it is trained
        return
    source = make_source(config.pool, "pool")
    yield f"pool {source.label}", _key("pool", config.pool), source.check_pool
    if isinstance(config, FeatureConfig) and config.target is not None:
        target = data_set(config.target, "target")
        yield f"target {target.label}", _key("target", config.target), lambda: target.labelled("train")
    if not isinstance(config, RunConfig):
        return
    if (asked := make_pruner(config.pruner, "pruner").reference_data) is not None:
        text, batch = has_text(config.framework), config.train.batch_size
        yield (
            "reference data",
            json.dumps(["reference", plain(asked), text, batch]),
            lambda: held_out_pool(asked, "reference", with_text=text, at_least=batch),
        )


def _evaluated(run: PlannedRun) -> Iterator[Check]:
    config = run.config
    if isinstance(config, RunConfig):
        for choice in config.evaluate:
            yield f"evaluation {choice.name}", _key("task", choice), make_task(choice, "evaluate").check_data
    elif isinstance(config, FeatureConfig) and config.encoder.name == "open_clip":
        from benchmark.models.clip.published import (  # loads open_clip, which few sweeps need here
            Published,
            check_at_hand,
        )

        options = config.encoder.options
        yield "encoder", _key("encoder", config.encoder), lambda: check_at_hand(Published(**options))


def _key(kind: str, choice: Choice) -> str:
    return json.dumps([kind, choice.name, plain(choice.options)], sort_keys=True)


def _problem(check: Callable[[], Any]) -> str:
    try:
        check()
    except (PoolError, ConfigError, OSError) as error:
        return str(error)
    return ""


def _lines(found: dict[str, list[str]]) -> list[str]:
    return [f"{what} ({len(names)} runs: {names[0]}{', …' * (len(names) > 1)})" for what, names in found.items()]
