"""Lists of values among the options of methods, pools and tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import repeat

from benchmark import plugins
from benchmark.config.run import Choice
from benchmark.config.sweepfile import Grid
from benchmark.evaluate.task import Task
from benchmark.options import combinations
from benchmark.pool.source import Source
from benchmark.pruner import Pruner


def spread(grid: Grid) -> Grid:
    """With each method, pool and task once for every combination of the values that its options list.

    Raises ConfigError for an unknown name or an empty list.
    """
    tasks = [f"{grid.where}.evaluate[{i}]" for i in range(len(grid.evaluate))]
    return replace(
        grid,
        pools=tuple(_each(grid.pools, "benchmark.pool.sources", Source, repeat(f"{grid.where}.pool"))),
        pruners=tuple(_each(grid.pruners, "baselines", Pruner, repeat(f"{grid.where}.pruner"))),
        evaluate=tuple(_each(grid.evaluate, "benchmark.evaluate.tasks", Task, tasks)),
    )


def _each(choices: Iterable[Choice], package: str, base: type[object], wheres: Iterable[str]) -> Iterator[Choice]:
    for choice, where in zip(choices, wheres, strict=False):
        cls = plugins.load(package, choice.name, base, where)
        for options in combinations(cls, choice.options, f"{where}.{choice.name}")[0]:
            yield replace(choice, options=options)
