"""The evaluation of a trained run, where it is a job of its own (``launch.evaluate``)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmark.config.launch import LaunchConfig
from benchmark.config.run import DUMPER, Choice, RunConfig
from benchmark.files import sealed_text
from benchmark.options import build, check_keys, plain


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What it measures goes into the run's record; its own folder holds its attempts and its error."""

    run: RunConfig
    launch: LaunchConfig
    waits_for: tuple[str, ...]

    @property
    def name(self) -> str:
        """``evaluate-clip-ViT-B-32-cc12m_plus-scan-s0-3f9a1c``"""
        return f"evaluate-{self.run.name}"

    @property
    def sweep(self) -> str:
        return self.run.sweep

    @property
    def framework(self) -> str:
        return self.run.framework

    @property
    def pool(self) -> Choice:
        return self.run.pool

    @property
    def pool_label(self) -> str:
        return self.run.pool_label

    @property
    def method(self) -> str:
        return f"evaluation of {self.run.method}"

    @property
    def seed(self) -> int:
        return self.run.seed

    def to_yaml(self) -> str:
        node = {"kind": "evaluation", **plain(dataclasses.asdict(self))}
        return sealed_text(yaml.dump(node, Dumper=DUMPER, sort_keys=True, allow_unicode=True))

    @staticmethod
    def read(node: dict[str, Any], path: Path) -> EvaluationConfig:
        """From the mapping a ``config.yaml`` holds. Raises ConfigError that names the file and key."""
        node = {key: value for key, value in node.items() if key != "kind"}
        check_keys(node, [f.name for f in dataclasses.fields(EvaluationConfig)], str(path), all_required=True)
        node["run"] = RunConfig.read(node["run"], path)
        node["launch"] = build(LaunchConfig, node["launch"], f"{path}: launch")
        node["waits_for"] = tuple(node["waits_for"])
        return EvaluationConfig(**node)


def evaluation_of(run: RunConfig) -> list[EvaluationConfig]:
    """The job that evaluates a run; none where the run's own does, or there is nothing to measure."""
    if not run.launch.evaluate or not run.evaluate:
        return []
    return [EvaluationConfig(run=run, launch=run.launch.of_evaluation, waits_for=(run.name,))]
