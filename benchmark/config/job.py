"""What a planned job does: train a run, evaluate it, compute features of a pool, make a static method's choice."""

from __future__ import annotations

from pathlib import Path

from benchmark.config.choice_pass import ChoiceConfig
from benchmark.config.evaluation import EvaluationConfig
from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.run import RunConfig, load_sealed

JobConfig = RunConfig | EvaluationConfig | FeatureConfig | ChoiceConfig


def load_config(path: Path) -> JobConfig:
    """Read the ``config.yaml`` of a run, its evaluation, a pass over features or a choice. Raises ConfigError."""
    node = load_sealed(path)
    if node.get("kind") == "features":
        return FeatureConfig.read(node, path)
    if node.get("kind") == "evaluation":
        return EvaluationConfig.read(node, path)
    return ChoiceConfig.read(node, path) if node.get("kind") == "choice" else RunConfig.read(node, path)
