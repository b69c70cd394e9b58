"""What a planned job does: train a run, compute features of a pool, or make a static method's choice."""

from __future__ import annotations

from pathlib import Path

from benchmark.config.choice_pass import ChoiceConfig
from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.run import RunConfig, load_sealed

JobConfig = RunConfig | FeatureConfig | ChoiceConfig


def load_config(path: Path) -> JobConfig:
    """Read the ``config.yaml`` of a run, of a pass over features or of a choice. Raises ConfigError."""
    node = load_sealed(path)
    if node.get("kind") == "features":
        return FeatureConfig.read(node, path)
    return ChoiceConfig.read(node, path) if node.get("kind") == "choice" else RunConfig.read(node, path)
