"""A sweep file, read strictly through OmegaConf: a list of grids, each the product of its lists."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmark.config import profiles, suites
from benchmark.config.feature_pass import FeatureOptions
from benchmark.config.launch import LaunchConfig
from benchmark.config.published import WORD, published_pruner, published_train
from benchmark.config.run import BOARDS, TENSORBOARD, Choice, TrainConfig, as_choice
from benchmark.options import (
    ConfigError,
    as_written,
    build,
    check_keys,
    check_option,
    combinations,
    did_you_mean,
    load_yaml,
    must_be_mapping,
    overridden,
    plain,
    value_in,
)

GRID_KEYS = (
    "framework", "model", "pool", "pruner", "seed", "train", "published", "features", "evaluate", "launch", "log"
)  # fmt: skip


OWN = Path(__file__).parents[2] / "sweeps"
"""The sweep files that come with the code: in a checkout, and beside the packages where they are installed."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One entry of a sweep file's ``grid``, with one value of each training option: the product of models, pools,
    pruners and seeds."""

    where: str
    framework: str
    models: tuple[Choice, ...]
    pools: tuple[Choice, ...]
    pruners: tuple[Choice, ...]
    seeds: tuple[int, ...]
    train: TrainConfig
    varied: tuple[str, ...]
    """Options of ``train`` of which the entry lists several values; there is a grid for each."""
    published: bool
    """Whether the options of the published arm are set; ``train`` and ``pruners`` have them."""
    features: FeatureOptions | None
    evaluate: tuple[Choice, ...]
    launch: LaunchConfig
    log: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep file, read: its name and grids."""

    name: str
    grids: tuple[Grid, ...]
    compare: bool = True
    """Whether a report of all sweeps takes it in; searches for settings and quickstarts say ``compare: false``."""


def own_sweeps() -> dict[str, Path]:
    """Those in ``OWN`` by name, such as ``quickstart``."""
    return {path.stem: path for path in sorted(OWN.glob("*.yaml"))}


def cost_of(path: Path) -> str:
    """What a sweep file's opening comment says after ``Cost:``, its first sentence; "" if it says nothing."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    found = re.search(r"Cost: (.+?)\.( |$)", " ".join(line.strip("# ") for line in lines))
    return found[1] if found else ""


def read_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep file with ``key=value`` overrides.

    An override whose key does not open with ``grid``, ``name`` or ``defaults`` holds for every grid:
    ``train.epochs=2``; ``grid[0].train.epochs=2`` holds for one. Raises ConfigError with the path of the
    mistake: ``sweeps/x.yaml: grid[0].train.epochz: unknown option; did you mean 'epochs'?``
    """
    content = _resolved(load_yaml(path, as_written), path)
    check_keys(content, ("name", "defaults", "grid", "compare"), f"{path}:")
    compare = content.get("compare", True)
    if not isinstance(compare, bool):
        raise ConfigError(f"{path}: compare: true or false, not '{compare}'")
    defaults = content.get("defaults") or {}
    must_be_mapping(defaults, f"{path}: defaults")
    check_keys(defaults, GRID_KEYS, f"{path}: defaults")
    merged = []
    for i, grid in enumerate(_grids(content, path)):
        must_be_mapping(grid, f"{path}: grid[{i}]")
        merged.append({**defaults, **grid})
        for key in ("train", "launch"):
            for source, where in ((defaults, "defaults"), (grid, f"grid[{i}]")):
                must_be_mapping(source.get(key) or {}, f"{path}: {where}.{key}")
            merged[i][key] = {**(defaults.get(key) or {}), **(grid.get(key) or {})}
    tree = _with_overrides({"name": content.get("name") or path.stem, "grid": merged}, overrides)
    name = "" if tree["name"] is None else str(tree["name"])
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name.startswith("."):
        raise ConfigError(f"{path}: name: '{name}' names a folder: use letters, digits, '_', '-' and '.'")
    read = [
        one
        for i, grid in enumerate(_grids(tree, path))
        for one in _read_grid(grid, f"{path}: grid[{i}]", path.parent)
    ]
    return Sweep(name=name, grids=tuple(read), compare=compare)


def _grids(content: dict[str, Any], path: Path) -> list[Any]:
    grids = content.get("grid")
    if not isinstance(grids, list) or not grids:
        raise ConfigError(f"{path}: grid: must be a list with at least one entry")
    return grids


def _resolved(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """With the values that ``${key}`` refers to in its place."""
    try:
        found = OmegaConf.to_container(OmegaConf.create(content), resolve=True)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{path}: {error.full_key}: {reason}: ${{...}} is a key of this file; write the shell's as \\${{...}}"
        ) from error
    return {str(key): value for key, value in dict(found).items()}  # type: ignore[arg-type]


def _with_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    tree = plain(tree)  # a copy: what YAML's aliases share is not changed in one place for all
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"'{override}': expected key=value, for example train.epochs=2")
        first = re.split(r"[.\[]", key, maxsplit=1)[0]
        if first not in ("grid", "name", *GRID_KEYS):
            raise ConfigError(f"'{override}': unknown key{did_you_mean(first, (*GRID_KEYS, 'grid', 'name'))}")
        count = len(tree["grid"]) if isinstance(tree["grid"], list) else 0
        for target in [key] if first in ("grid", "name") else [f"grid[{i}].{key}" for i in range(count)]:
            overridden(tree, target, value_in(override, text))
    return tree


def _read_grid(grid: Any, where: str, beside: Path) -> Iterator[Grid]:
    must_be_mapping(grid, where)
    check_keys(grid, GRID_KEYS, where)
    for key in ("framework", "model", "pool", "pruner", "train"):
        if not grid.get(key):
            raise ConfigError(f"{where}.{key}: missing")
    if not isinstance(grid["framework"], str):
        raise ConfigError(f"{where}.framework: expected one name, got {grid['framework']!r}; use a grid for each")
    seeds = _as_list(grid.get("seed", 0))
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ConfigError(f"{where}.seed: expected whole numbers from 0, got {seed!r}")
    launch = grid.get("launch") or {}
    must_be_mapping(launch, f"{where}.launch")
    framework, train = grid["framework"], grid["train"]
    pruners = _as_choices(grid["pruner"], f"{where}.pruner")
    published = grid.get(WORD) or False
    if not isinstance(published, bool):
        raise ConfigError(f"{where}.{WORD}: true or false, not '{published}'")
    if published:
        pruners = tuple(as_published(framework, pruner, f"{where}.pruner") for pruner in pruners)
    must_be_mapping(train, f"{where}.train")
    trains, varied = combinations(TrainConfig, train, f"{where}.train")
    if published:
        trains = [published_train(framework, train, f"{where}.train") for train in trains]
    one = Grid(
        where=where,
        framework=framework,
        models=_as_choices(grid["model"], f"{where}.model"),
        pools=_as_choices(grid["pool"], f"{where}.pool"),
        pruners=pruners,
        seeds=tuple(seeds),
        train=build(TrainConfig, trains[0], f"{where}.train"),
        varied=varied,
        published=published,
        features=build(FeatureOptions, grid["features"], f"{where}.features") if grid.get("features") else None,
        evaluate=_as_choices(
            suites.expanded(grid.get("evaluate") or [], f"{where}.evaluate"), f"{where}.evaluate"
        ),
        launch=build(LaunchConfig, profiles.with_profile(launch, beside, f"{where}.launch"), f"{where}.launch"),
        log=_boards(grid.get("log", TENSORBOARD), f"{where}.log"),
    )
    yield from (dataclasses.replace(one, train=build(TrainConfig, train, f"{where}.train")) for train in trains)


def _boards(node: Any, where: str) -> tuple[str, ...]:
    """Where runs are watched. Raises ConfigError for a name that is unknown, or whose package is not installed."""
    names = tuple(map(str, _as_list(node or [])))
    for name in names:
        try:
            check_option("log", name, BOARDS)
        except ValueError as error:
            raise ConfigError(f"{where.removesuffix('log')}{error}") from error
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"{where}: {name} is not installed: pip install 'scan-bench[{name}]'")
    return names


def as_published(framework: str, pruner: Choice, where: str) -> Choice:
    """A method as a grid of the published arm means it. Raises ConfigError where it says something else."""
    options = published_pruner(framework, pruner.name, pruner.options, f"{where}.{pruner.name}")
    return dataclasses.replace(pruner, options=options)


def _as_list(node: Any) -> list[Any]:
    return node if isinstance(node, list) else [node]


def _as_choices(node: Any, where: str) -> tuple[Choice, ...]:
    """A list may hold lists, as aliases of YAML do: what they hold is taken in their place."""
    if isinstance(node, list):
        node = [item for part in node for item in _as_list(part)]
    return tuple(
        as_choice(item, f"{where}[{i}]" if isinstance(node, list) else where)
        for i, item in enumerate(_as_list(node))
    )
