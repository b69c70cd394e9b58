"""Cluster profiles: ``launch`` options that hold for a cluster, in a YAML file of their own that sweeps name.

A grid's own ``launch`` wins over the profile, key by key; so do the keys within ``sbatch`` and ``srun``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.config.launch import LaunchConfig
from benchmark.options import (
    ConfigError,
    as_written,
    build,
    did_you_mean,
    load_yaml,
    overridden,
    value_in,
)

KEY = "profile"
"""The option of ``launch`` that names a profile."""
FOLDERS = "SCAN_BENCH_CLUSTERS"
"""Environment variable: folders of profiles, with colons between."""
MERGED = ("sbatch", "srun")


def with_profile(launch: Mapping[str, Any], beside: Path, where: str) -> dict[str, Any]:
    """The options of ``launch`` over those of the profile it names; as they are if it names none.

    A profile is a path (from ``beside``, the sweep's folder), or the name of a file NAME.yaml beside the sweep,
    in the project's ``clusters/`` or in a folder of $SCAN_BENCH_CLUSTERS, searched in this order. Raises
    ConfigError, with the nearest name if there is no such profile.
    """
    own = {key: value for key, value in launch.items() if key != KEY}
    name = launch.get(KEY)
    if name is None:
        return own
    path = _find(name, beside, f"{where}.{KEY}")
    profile = load_yaml(path, as_written)
    build(LaunchConfig, profile, f"{path}")  # its mistakes are reported under its own path
    merged = {**profile, **own}
    for key in MERGED:
        if profile.get(key) and isinstance(own.get(key), Mapping):
            merged[key] = {**profile[key], **own[key]}
    return merged


def as_launch(words: Sequence[str], profile: str | None) -> LaunchConfig:
    """``launch.key=value`` words as options, over a profile. Raises ConfigError."""
    launch: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not key.startswith("launch.") or not equals:
            raise ConfigError(f"'{word}': expected launch.key=value, for example launch.partition=gpu")
        overridden(launch, key.removeprefix("launch."), value_in(word, text))
    if profile is not None:
        launch[KEY] = profile
    return build(LaunchConfig, with_profile(launch, Path(), "launch"), "launch")


def _find(name: Any, beside: Path, where: str) -> Path:
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}: expected the name of a profile or a path to one, got {name!r}")
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = beside / name if (beside / name).exists() else Path(name)
        if not path.is_file():
            raise ConfigError(f"{where}: {name}: no such file, neither here nor beside the sweep ({beside})")
        return path
    folders = _folders(beside)
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({path.stem for folder in folders[1:] for path in folder.glob("*.yaml")})
    listed = f" (known: {', '.join(known) or 'none'}; searched {', '.join(map(str, folders))})"
    raise ConfigError(f"{where}: unknown profile '{name}'{did_you_mean(name, known)}{listed}")


def _folders(beside: Path) -> list[Path]:
    given = [Path(word) for word in os.environ.get(FOLDERS, "").split(os.pathsep) if word]
    return [beside, Path(__file__).parents[2] / "clusters", *given]
