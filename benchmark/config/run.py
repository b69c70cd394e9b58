"""One run as frozen dataclasses, and its name.

A run is written to ``config.yaml`` in its folder when it is planned and read back from there by its job.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmark.config.identity import is_later_default
from benchmark.config.launch import LaunchConfig
from benchmark.config.published import WORD, is_published
from benchmark.files import sealed_text, unsealed_text
from benchmark.options import (
    LATER_OPTION,
    NOT_IDENTITY,
    ConfigError,
    build,
    check_keys,
    check_option,
    load_yaml,
    must_be_mapping,
    plain,
    require,
)

DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML was built with it: ten times as fast, for sweeps of a thousand runs."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A named thing with options: ``scan``, or ``{scan: {cycle: 3}}``."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a run is trained. There is no default where the papers differ."""

    epochs: int
    batch_size: int
    """Samples in a global batch, over all ranks."""
    lr: float
    lr_reference_batch: int | None = None
    """If set, the peak rate is ``lr * batch_size / lr_reference_batch`` (MoCo v3: 256)."""
    warmup_epochs: float = 0.0
    warmup_steps: int = 0
    """Linear warm-up in optimiser steps of the full data set; at most one of the two is set."""
    lr_clock: str = "progress"
    """``progress``: the rate follows fractional epochs; ``reference``: the published CLIP code's step count,
    which jumps when an epoch gets shorter."""
    warmup_from_zero: bool = field(default=False, metadata=LATER_OPTION)
    """Warm up from a rate of 0 at the first step, as MoCo v3's code; else from one step's part, as open_clip."""
    optimizer: str = "adamw"
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float | None = None
    """Largest norm of the whole gradient; None leaves it alone."""
    precision: str = "fp32"
    """``fp32``, ``bf16`` (autocast) or ``fp16`` (autocast with a gradient scaler)."""
    accumulate: int = 1
    """Micro-batches in a global batch; CLIP keeps the whole batch's negatives."""
    batch_norm: str = field(default="global", metadata=LATER_OPTION)
    """Normalise in training by the ``global`` batch, or by each ``rank``'s part of it, as CLIP's published runs:
    results then depend on the number of ranks, and the running statistics are those of rank 0's parts."""
    feature_gradient: str = field(default="sum", metadata=LATER_OPTION)
    """CLIP only: a feature's gradient is the ``sum`` of what all ranks' losses want, which is the global batch's,
    or their ``mean``, as open_clip's default gather: 1 / ranks of it for the towers, not for the temperature."""
    logits: str = field(default="fp32", metadata=LATER_OPTION)
    """Precision of the logits: ``fp32``, or ``autocast``, that of ``precision``, as in the published code."""
    decoder: str = field(default="pillow", metadata=LATER_OPTION)
    """CLIP only: what decodes JPEGs, crops and resizes: ``pillow``, as published, or ``torchvision``, in less than
    half the time; one value of a pixel in 250 or so then differs, by 1 or 2 of 255."""
    augment: str = field(default="pillow", metadata=LATER_OPTION)
    """MoCo only: colour jitter, blur and so on of the two views by ``pillow`` in the loader's workers, or on the
    ``device`` of the model, a batch at a time, from the same draws: views differ in rounding, hue and blur."""
    compile: bool = field(default=False, metadata=LATER_OPTION)
    """Let torch.compile make the forward pass: minutes at the start, then fewer and larger kernels, which round
    differently."""
    channels_last: bool = field(default=False, metadata=LATER_OPTION)
    """Keep images with their channels together, as a GPU's convolutions in half precision like it; rounds
    differently."""
    tf32: bool = field(default=True, metadata=LATER_OPTION)
    """On a GPU: float32 products and convolutions in TF32, but for the logits. Nothing on a CPU."""
    deterministic: bool = field(default=False, metadata=LATER_OPTION)
    """Take deterministic kernels alone, so that the same GPUs give the same run bit for bit; slower. Without it
    cuDNN chooses its convolutions by their time."""
    checkpointing: bool = field(default=False, metadata=NOT_IDENTITY)
    """Compute a transformer's activations again in the backward pass in place of keeping them: less memory, more
    time, the same numbers. Refused for towers with batch normalisation."""
    shuffle: str = "full"
    """``full``: a uniform permutation; ``window``: shards in random order, mixed within ``window_shards``."""
    window_shards: int = 16
    max_skipped: float = field(default=0.01, metadata=NOT_IDENTITY)
    """Share of the pool that may turn out unreadable before the run stops, and of its data that may be none."""
    device: str = field(default="auto", metadata=NOT_IDENTITY)
    num_workers: int = field(default=0, metadata=NOT_IDENTITY)
    prefetch: int = field(default=4, metadata=NOT_IDENTITY)
    """Batches that each loader worker reads ahead; they wait in the machine's shared memory."""
    image_cache_mb: int = field(default=0, metadata=NOT_IDENTITY)
    """Millions of bytes of decoded samples that the run keeps in memory on each machine, 0 for none: later epochs
    do not read them again. Ranks and loader workers have equal parts and share nothing, so with ``num_workers``
    above 1 each may come to hold the same samples."""
    log_every: int = field(default=10, metadata=NOT_IDENTITY)
    """Optimiser steps between two lines of ``log.jsonl``; losses reach the pruner as often."""
    checkpoint_minutes: float = field(default=10.0, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        require(self.batch_size >= 2, "batch_size", "at least 2 (a loss needs a negative)", self.batch_size)
        require(self.lr > 0, "lr", "above 0", self.lr)
        require(self.warmup_epochs >= 0, "warmup_epochs", "at least 0", self.warmup_epochs)
        require(self.warmup_steps >= 0, "warmup_steps", "at least 0", self.warmup_steps)
        if self.warmup_epochs and self.warmup_steps:
            raise ValueError("set warmup_epochs or warmup_steps, not both")
        for name, allowed in (
            ("lr_clock", ("progress", "reference")),
            ("optimizer", ("adamw", "lars")),
            ("batch_norm", ("global", "rank")),
            ("feature_gradient", ("sum", "mean")),
            ("logits", ("fp32", "autocast")),
            ("decoder", ("pillow", "torchvision")),
            ("augment", ("pillow", "device")),
            ("precision", ("fp32", "bf16", "fp16")),
            ("shuffle", ("full", "window")),
        ):
            check_option(name, getattr(self, name), allowed)
        require(self.accumulate >= 1, "accumulate", "at least 1", self.accumulate)
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        require(self.window_shards >= 1, "window_shards", "at least 1", self.window_shards)
        require(0 <= self.max_skipped <= 1, "max_skipped", "in [0, 1]", self.max_skipped)
        require(self.log_every >= 1, "log_every", "at least 1", self.log_every)
        require(self.num_workers >= 0, "num_workers", "at least 0", self.num_workers)
        require(self.prefetch >= 1, "prefetch", "at least 1", self.prefetch)
        require(self.image_cache_mb >= 0, "image_cache_mb", "at least 0", self.image_cache_mb)


TENSORBOARD = "tensorboard"
BOARDS = (TENSORBOARD, "wandb", "mlflow")
"""Where a run's numbers can be watched (``benchmark.runs.boards``): the packages' names."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, resolved: every option stands there with its value."""

    sweep: str
    framework: str
    model: Choice
    pool: Choice
    pool_label: str
    pruner: Choice
    method: str
    """The pruner's name with the options that differ from its defaults, as tables show it."""
    seed: int
    train: TrainConfig
    evaluate: tuple[Choice, ...]
    launch: LaunchConfig
    identity: str
    """Hash over what changes numbers."""
    waits_for: tuple[str, ...] = ()
    """Names of the sweep's runs that this one takes something from."""
    features: str | None = None
    """Name of the pass whose features the method reads."""
    choice: str | None = None
    """Name of the choice that it trains on, where the method is static and reads features. None in a run that
    chose by itself, as all did before choices were jobs."""
    log: tuple[str, ...] = (TENSORBOARD,)
    """Where its numbers are watched, of ``BOARDS``; they lie in ``log.jsonl`` in any case."""

    @property
    def is_published(self) -> bool:
        """Whether it is a run of the published arm (``benchmark.config.published``)."""
        return is_published(self.framework, vars(self.train))

    @property
    def name(self) -> str:
        """Readable and unique: ``clip-ViT-B-32-cc12m_plus-scan-s0-3f9a1c``, in the published arm
        ``…-scan-published-s0-…``."""
        parts = [
            self.framework,
            self.model.name,
            self.pool_label,
            self.pruner.name,
            *([WORD] if self.is_published else []),
            f"s{self.seed}",
            self.identity,
        ]
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts))

    def to_yaml(self) -> str:
        node = plain(dataclasses.asdict(self))
        if self.log == (TENSORBOARD,):  # a queued job of older code, which knows no ``log``, reads this too
            del node["log"]
        return sealed_text(yaml.dump(node, Dumper=DUMPER, sort_keys=True, allow_unicode=True))

    @staticmethod
    def load(path: Path) -> RunConfig:
        """Read a run's ``config.yaml``. Raises ConfigError that names the file and key."""
        return RunConfig.read(load_sealed(path), path)

    @staticmethod
    def read(node: dict[str, Any], path: Path) -> RunConfig:
        """From the mapping that a ``config.yaml`` holds. Raises ConfigError that names the file and key."""
        node = dict(node)
        for key in ("model", "pool", "pruner"):
            node[key] = build(Choice, node.get(key, {}), f"{path}: {key}")
        node["evaluate"] = tuple(
            build(Choice, task, f"{path}: evaluate[{i}]") for i, task in enumerate(node.get("evaluate", []))
        )
        node["train"] = build(TrainConfig, node.get("train", {}), f"{path}: train")
        node["launch"] = build(LaunchConfig, node.get("launch", {}), f"{path}: launch")
        node["waits_for"] = tuple(node.get("waits_for", ()))
        node["features"], node["choice"] = node.get("features"), node.get("choice")
        node["log"] = tuple(node.get("log", (TENSORBOARD,)))
        check_keys(node, [f.name for f in dataclasses.fields(RunConfig)], str(path), all_required=True)
        return RunConfig(**node)


def load_sealed(path: Path) -> dict[str, Any]:
    """The mapping that a ``config.yaml`` holds. Raises ConfigError, also if it is not as it was planned."""
    try:
        return load_yaml(path, lambda text: yaml.load(unsealed_text(text), LOADER))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; plan the sweep again to have it written anew") from error


def as_choice(node: Any, where: str) -> Choice:
    """``name`` or ``{name: {option: value}}``; anything else is a ConfigError."""
    if isinstance(node, str) and node:
        return Choice(name=node)
    if isinstance(node, Mapping) and len(node) == 1:
        ((name, options),) = node.items()
        must_be_mapping(options or {}, f"{where}.{name}")
        return Choice(name=str(name), options=dict(options or {}))
    raise ConfigError(
        f"{where}: expected a name, or one name with its options ({{name: {{option: value}}}}), got {node!r}"
    )


def resolved(name: str, built: Any, *, as_before: bool = False) -> Choice:
    """The choice with every option of the built object written out.

    ``as_before`` leaves out later options at their defaults: what was evaluated before they came stays evaluated,
    and old and new records say the same of the same evaluation.
    """
    options = {
        f.name: getattr(built, f.name)
        for f in dataclasses.fields(built)
        if f.init and not (as_before and is_later_default(f, getattr(built, f.name)))
    }
    return Choice(name=name, options=plain(options))
