"""Fingerprints of one pool by several rules: the code that makes them has changed, the data has not.

``same_pools.yaml`` in the folder of results lists them, with how it is known; their runs stand in one table.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from benchmark.options import ConfigError, check_keys

FILE = "same_pools.yaml"


def read_same_pools(results: Path) -> dict[str, str]:
    """Fingerprint -> the first of its pool's; empty without a file. Raises ConfigError that names file and key."""
    path = results / FILE
    if not path.exists():
        return {}
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: expected a list of pools")
    same: dict[str, str] = {}
    for i, entry in enumerate(entries):
        where = f"{path}: [{i}]"
        if not isinstance(entry, dict):
            raise ConfigError(f"{where}: expected pool, fingerprints and known_by")
        check_keys(entry, ["pool", "fingerprints", "known_by"], where, all_required=True)
        names = entry["fingerprints"]
        if not isinstance(names, list) or len(names) < 2 or not all(isinstance(n, str) and n for n in names):
            raise ConfigError(f"{where}.fingerprints: expected two or more, as text")
        for name in names:
            if name in same:
                raise ConfigError(f"{where}.fingerprints: {name} stands there twice")
            same[name] = names[0]
    return same
