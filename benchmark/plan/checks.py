"""What is checked of a grid at the desk: batches, ranks and tasks fit together."""

from __future__ import annotations

from benchmark.config.memory import memory_of
from benchmark.config.run import RunConfig, as_choice
from benchmark.config.sweepfile import Grid
from benchmark.evaluate.task import make_task
from benchmark.models.frameworks import example_bytes, has_text, resolve_model
from benchmark.options import ConfigError
from benchmark.pool.source import PlantedSource, data_set, make_source
from benchmark.pruner import Pruner, make_pruner
from benchmark.training.order import ahead_bytes, super_batch_size

ASSUMED_MEMORY_GB = 64
"""Of a machine, where ``launch.memory_gb`` does not say."""


def check_grid(grid: Grid) -> None:
    """What does not depend on a choice: ranks divide the batch, tasks fit the framework."""
    for model in grid.models:
        resolve_model(grid.framework, model, grid.where)
    ranks, batch = grid.launch.num_ranks, grid.train.batch_size
    if batch % (ranks * grid.train.accumulate):
        raise ConfigError(
            f"{grid.where}.train.batch_size: {batch} is not a multiple of"
            f" {ranks} ranks x accumulate {grid.train.accumulate}"
        )
    if grid.framework == "moco" and grid.train.feature_gradient != "sum":
        raise ConfigError(
            f"{grid.where}.train.feature_gradient: MoCo v3's gathered keys have no gradient; leave it out"
        )
    if grid.framework == "moco" and grid.train.decoder != "pillow":
        raise ConfigError(f"{grid.where}.train.decoder: MoCo v3's views are made of Pillow's images; leave it out")
    if grid.framework == "clip" and grid.train.augment != "pillow":
        raise ConfigError(f"{grid.where}.train.augment: CLIP has no augmentation but its crop; leave it out")
    if grid.framework == "moco" and grid.train.accumulate > 1:
        raise ConfigError(
            f"{grid.where}.train.accumulate: MoCo v3 cannot accumulate (its keys are a batch's); use 1"
        )
    for choice in grid.pools:
        source = make_source(choice, f"{grid.where}.pool")
        if isinstance(source, PlantedSource) and source.plant.swapped_captions and not has_text(grid.framework):
            raise ConfigError(
                f"{grid.where}.pool.{choice.name}.plant.swapped_captions: needs captions, which {grid.framework}"
                " does not read"
            )
    for i, choice in enumerate(grid.evaluate):
        task = make_task(choice, f"{grid.where}.evaluate[{i}]")
        if task.needs_text and not has_text(grid.framework):
            raise ConfigError(
                f"{grid.where}.evaluate[{i}].{choice.name}: needs captions, which {grid.framework} does not read"
            )


def check_reference(grid: Grid, method: Pruner) -> None:
    """The reference data is a source that the run is not trained on, and no task measures on its pairs."""
    where = f"{grid.where}.pruner: reference"
    source = data_set(as_choice(method.reference_data, where), where)
    if not has_text(grid.framework) and source in (make_source(pool, f"{grid.where}.pool") for pool in grid.pools):
        raise ConfigError(
            f"{where}: {source.label} is the pool too, whose labelled train split may be what it trains on; take"
            " another source or seed"
        )
    for i, choice in enumerate(grid.evaluate):
        task = make_task(choice, f"{grid.where}.evaluate[{i}]")
        if has_text(grid.framework) and "pairs" in task.reads and task.source() == source:
            raise ConfigError(
                f"{where}: {grid.where}.evaluate[{i}].{choice.name} measures on {source.label} too: what a run is"
                " evaluated on must not choose what it trains on; take held-out samples of another source or seed"
            )


def ahead_of(config: RunConfig) -> int:
    """Bytes that a run's loader workers read ahead at most on each machine, in its shared memory."""
    example = example_bytes(config.framework, config.model)
    return ahead_bytes(config.train, config.launch, make_pruner(config.pruner, "pruner").super_batch, example)


def check_memory(config: RunConfig, where: str) -> None:
    """The batches read ahead take at most half of a machine's memory: all that Linux gives ``/dev/shm``."""
    needed, asks = ahead_of(config), memory_of(config.launch)
    memory = asks.gb or ASSUMED_MEMORY_GB
    if needed > memory * 10**9 / 2:
        told = "" if asks.gb else ", which is assumed where launch.memory_gb is not said"
        raise ConfigError(
            f"{where}.train: {config.name}: loader workers read up to {needed / 1e9:.1f} GB ahead on a machine"
            f" ({config.launch.ranks_per_node} ranks x {config.train.num_workers} num_workers x"
            f" {config.train.prefetch} prefetch), more than half of its {memory:g} GB{told}: lower"
            " train.num_workers, prefetch or batch_size, or raise"
            f" {asks.option}"
        )


def check_batch(grid: Grid, method: Pruner, samples: int | None) -> None:
    """The pool holds a batch, and a batch to choose from; ranks can share it."""
    batch, factor = grid.train.batch_size, method.super_batch
    try:
        read = super_batch_size(batch, factor, grid.launch.num_ranks)
    except ValueError as error:
        raise ConfigError(f"{grid.where}: {error}") from error
    if samples is not None and samples < read:
        chosen = f", chosen from {read}," if factor != 1 else ""
        raise ConfigError(
            f"{grid.where}.train.batch_size: {batch}{chosen} is more than the pool's {samples} samples"
        )
