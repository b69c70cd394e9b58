"""What one static method chooses of one pool by one pass's features, as a frozen dataclass, with its name."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmark.config.launch import LaunchConfig
from benchmark.config.run import DUMPER, Choice
from benchmark.files import sealed_text
from benchmark.options import build, check_keys, plain


@dataclass(frozen=True, kw_only=True)
class ChoiceConfig:
    """A static method's choice by features, made once for all runs that have the pass and the method in common."""

    sweep: str
    framework: str
    pool: Choice
    pool_label: str
    pruner: Choice
    label: str
    """The method as its runs' tables show it."""
    features: str
    """Name of the pass whose features the method reads."""
    seed: int
    """The pass's, so that one encoder gives one choice."""
    num_epochs: int
    """Of the runs, which a method may know."""
    device: str
    launch: LaunchConfig
    identity: str
    waits_for: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        return f"choice of {self.label}"

    @property
    def name(self) -> str:
        """Readable and unique: ``choice-semdedup-cc12m_plus-s0-3f9a1c``."""
        parts = ["choice", self.pruner.name, self.pool_label, f"s{self.seed}", self.identity]
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts))

    def to_yaml(self) -> str:
        node = {"kind": "choice", **plain(dataclasses.asdict(self))}
        return sealed_text(yaml.dump(node, Dumper=DUMPER, sort_keys=True, allow_unicode=True))

    @staticmethod
    def read(node: dict[str, Any], path: Path) -> ChoiceConfig:
        """From the mapping a ``config.yaml`` holds. Raises ConfigError that names the file and key."""
        node = {key: value for key, value in node.items() if key != "kind"}
        for key in ("pool", "pruner"):
            node[key] = build(Choice, node.get(key, {}), f"{path}: {key}")
        node["launch"] = build(LaunchConfig, node.get("launch", {}), f"{path}: launch")
        node["waits_for"] = tuple(node.get("waits_for", ()))
        check_keys(node, [f.name for f in dataclasses.fields(ChoiceConfig)], str(path), all_required=True)
        return ChoiceConfig(**node)
