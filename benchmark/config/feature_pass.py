"""What a grid says of features, and one pass of an encoder over a pool as a frozen dataclass, with its name."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmark.config.launch import LaunchConfig
from benchmark.config.run import DUMPER, Choice
from benchmark.files import sealed_text
from benchmark.options import LATER_OPTION, NOT_IDENTITY, build, check_keys, check_option, plain, require

WHOLE_MODELS = ("local-dir:", "hf-hub:")
"""Openings of open_clip's names of a folder or a repository that holds configuration, weights and tokenizer."""


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """What a grid says of the features its methods need: one encoder, and how to run it."""

    run: Any = None
    """The run of this sweep whose final weights encode, ``{pruner: full}``; where not said, its model, pool and
    seed are those of the run that needs the features."""
    open_clip: str | None = None
    """Or a model of open_clip's, with ``pretrained``: a tag, or a file where there is no access to a hub. Or
    ``local-dir:FOLDER`` or ``hf-hub:OWNER/NAME``, which hold all of a model."""
    pretrained: str | None = None
    as_tag: str | None = None
    """The tag whose weights a file holds: they get its activation and preprocessing."""
    moco_v3: str | None = None
    """Or a checkpoint of MoCo v3's published code, a file: features of images alone."""
    target: Any = None
    """Data set whose labelled training images give ``target_embedding``, for methods that use target data."""
    precision: str = field(default="fp32", metadata=LATER_OPTION)
    """``fp32``, ``bf16`` or ``fp16`` (autocast): the arrays are float16 whatever it is."""
    batch_size: int = field(default=256, metadata=NOT_IDENTITY)
    num_workers: int = field(default=0, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        if [bool(self.run), bool(self.open_clip), bool(self.moco_v3)].count(True) != 1:
            raise ValueError(
                "give either run, such as {pruner: full}, or open_clip: a model with pretrained weights, or"
                " moco_v3: a file"
            )
        is_whole = (self.open_clip or "").startswith(WHOLE_MODELS)
        if bool(self.open_clip and not is_whole) != bool(self.pretrained):
            raise ValueError("open_clip and pretrained belong together")
        if self.as_tag and not self.pretrained:
            raise ValueError("as_tag belongs to pretrained: the tag whose weights the file holds")
        check_option("precision", self.precision, ("fp32", "bf16", "fp16"))
        require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """One encoder's pass over one pool; what it leaves serves all methods that need features of it."""

    sweep: str
    framework: str
    encoder: Choice
    """``run: {run: …}``, ``open_clip: {model: …, pretrained: …}`` or ``moco_v3: {file: …}``."""
    encoder_label: str
    pool: Choice
    pool_label: str
    target: Choice | None
    with_text: bool
    seed: int
    precision: str = "fp32"
    batch_size: int
    num_workers: int
    device: str
    launch: LaunchConfig
    identity: str
    waits_for: tuple[str, ...] = ()
    evaluate: tuple[Choice, ...] = ()

    @property
    def method(self) -> str:
        return f"features of {self.encoder_label}"

    @property
    def name(self) -> str:
        """Readable and unique: ``features-ViT-B-32-cc12m_plus-s0-3f9a1c``."""
        parts = ["features", self.encoder_label, self.pool_label, f"s{self.seed}", self.identity]
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts))

    def to_yaml(self) -> str:
        node = {"kind": "features", **plain(dataclasses.asdict(self))}
        return sealed_text(yaml.dump(node, Dumper=DUMPER, sort_keys=True))

    @staticmethod
    def read(node: dict[str, Any], path: Path) -> FeatureConfig:
        """From the mapping a ``config.yaml`` holds. Raises ConfigError that names the file and key."""
        node = {"precision": "fp32", **node}  # passes from before there was a choice do not tell it
        node.pop("kind", None)
        for key in ("encoder", "pool"):
            node[key] = build(Choice, node.get(key, {}), f"{path}: {key}")
        node["target"] = None if node.get("target") is None else build(Choice, node["target"], f"{path}: target")
        node["launch"] = build(LaunchConfig, node.get("launch", {}), f"{path}: launch")
        node["waits_for"], node["evaluate"] = tuple(node.get("waits_for", ())), ()
        check_keys(node, [f.name for f in dataclasses.fields(FeatureConfig)], str(path), all_required=True)
        return FeatureConfig(**node)
