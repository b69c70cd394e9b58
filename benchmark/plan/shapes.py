"""The shape of a job: all that it does and asks for, apart from its seed. Jobs of one shape cost the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from benchmark.config.job import JobConfig
from benchmark.options import plain

NOT_SHAPE = ("sweep", "seed", "identity")
SIZE = ("nodes", "gpus", "ranks", "cpus")
"""Options of ``launch`` that the cost depends on."""
ENDING = re.compile(r"-s\d+-[0-9a-f]{6}$")
"""Seed and identity at the end of a run's name."""


def shape_of(config: JobConfig) -> str:
    """Twelve hexadecimal digits, the same for all seeds, limits of time and partitions."""
    node = {key: value for key, value in plain(dataclasses.asdict(config)).items() if key not in NOT_SHAPE}
    node["launch"] = {key: node["launch"][key] for key in SIZE}
    text = json.dumps([type(config).__name__, _seedless(node)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _seedless(value: Any) -> Any:
    """With the names of other runs cut to what they say of their shape."""
    if isinstance(value, Mapping):
        return {key: _seedless(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_seedless(item) for item in value]
    return ENDING.sub("", value) if isinstance(value, str) else value
