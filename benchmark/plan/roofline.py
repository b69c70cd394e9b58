"""What a training step takes, before anything was run: its FLOPs over the device's peak, or loading its samples.

FLOPs are torch's own count of a forward and backward pass on tensors without memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from benchmark.config.choice_pass import ChoiceConfig
from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.launch import LaunchConfig
from benchmark.config.run import Choice, RunConfig
from benchmark.files import write_text
from benchmark.pool.storage.arrayfile import cache_folder
from benchmark.pruner import StaticPruner, make_pruner

UTILISATION = 0.4
"""Share of a device's peak that training reaches: 30 to 50 % is usual for transformers."""
PEAKS = {
    "h200": (989, 67), "h100": (989, 67), "a100": (312, 19.5), "v100": (125, 15.7), "l40": (362, 90),
    "l4": (121, 30), "a40": (150, 37), "a30": (165, 10), "a10": (125, 31), "a6000": (155, 38), "t4": (65, 8.1),
    "4090": (165, 82), "3090": (71, 35),
}  # fmt: skip
"""10^12 dense operations a second, in half and in single precision, as the makers' data sheets say."""
UNKNOWN_GPU = "a100"
SAMPLES_PER_CORE_SECOND = {"pillow": {"clip": 366.0, "moco": 80.0}, "fast": {"clip": 1000.0, "moco": 330.0}}
"""JPEGs of 256 px read, decoded and augmented, both views of MoCo's together; ``fast`` with ``train.decoder:
torchvision`` and ``train.augment: device`` (perf/README.md, data and views: 2.8 and 4.2 times as many)."""
WIDTH = 512
"""Of the features that static methods choose by: most encoders'."""
BATCH = 4
"""Examples that FLOPs are counted on: enough for a batch's statistics."""


def seconds_per_sample(config: RunConfig) -> float:
    """Of one rank, for a sample that it trains on."""
    factor = make_pruner(config.pruner, "pruner").super_batch
    passes = 1.0 if factor == 1 else 1.0 + factor / 3  # those that are chosen from go forward alone
    flops = flops_per_sample(config.framework, config.model) * passes
    computing = flops / (UTILISATION * peak(config.launch, config.train.precision))
    fast = config.train.decoder == "torchvision" or config.train.augment == "device"
    rate = SAMPLES_PER_CORE_SECOND["fast" if fast else "pillow"][config.framework]
    return _with_loading(factor / rate, computing, config.train.num_workers)


def seconds_per_image(config: FeatureConfig, model: Choice) -> float:
    """Of one rank, for a sample that is encoded."""
    flops = flops_per_sample(config.framework, model) / 3
    computing = flops / (UTILISATION * peak(config.launch, config.precision))
    return _with_loading(1 / SAMPLES_PER_CORE_SECOND["pillow"]["clip"], computing, config.num_workers)


def seconds_of_choice(config: ChoiceConfig, samples: int) -> float | None:
    """Of a static method's choice; None where the method does not tell what it multiplies."""
    method = make_pruner(config.pruner, "pruner")
    assert isinstance(method, StaticPruner)
    products = method.multiply_adds(samples, WIDTH)
    return None if products is None else 2 * products / (UTILISATION * peak(config.launch, "fp32"))


def device_of(launch: LaunchConfig) -> str:
    """The device that is reckoned with, in words."""
    if not launch.gpus:
        return "cores as this machine's"
    known = _gpu(launch)
    return f"{(known or UNKNOWN_GPU).upper()}" + ("" if known else ", since launch names no GPU")


def peak(launch: LaunchConfig, precision: str) -> float:
    """Operations a second of what one rank has."""
    if not launch.gpus:
        return launch.cpus * _core_peak()
    half, single = PEAKS[_gpu(launch) or UNKNOWN_GPU]
    return 1e12 * (single if precision == "fp32" else half) * launch.gpus / launch.ranks_per_node


def flops_per_sample(framework: str, model: Choice) -> float:
    """Of a forward and backward pass through all of a model's networks."""
    return _flops(framework, model.name, json.dumps(model.options, sort_keys=True), cache_folder())


@lru_cache(maxsize=256)
def _flops(framework: str, name: str, options: str, cache: Path) -> float:
    """Kept on disk: building and counting a paper's nine models takes ten seconds."""
    packages = [version(package) for package in ("torch", "open_clip_torch", "timm")]
    of = hashlib.sha256(" ".join([framework, name, options, *packages]).encode()).hexdigest()[:16]
    path = cache / f"flops-{of}.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        flops = _counted(framework, name, options)
    with contextlib.suppress(OSError):  # a home that cannot be written to
        write_text(path, json.dumps(flops) + "\n")
    return flops


def _counted(framework: str, name: str, options: str) -> float:
    import torch
    from PIL import Image
    from torch.utils.flop_counter import FlopCounterMode

    from benchmark.models.clip import objective as _clip  # noqa: F401 (what they compute when loaded needs memory)
    from benchmark.models.frameworks import make_objective
    from benchmark.models.moco import objective as _moco  # noqa: F401
    from benchmark.pool.samples import Sample

    with torch.device("meta"):
        objective = make_objective(framework, Choice(name=name, options=json.loads(options)), 0)
    objective.logits = "autocast"  # which has no rule for tensors without memory
    example = objective.transform(Sample(Image.new("RGB", (64, 64)), "a picture"))
    batch = tuple(torch.empty((BATCH, *part.shape), dtype=part.dtype, device="meta") for part in example)
    objective.train()
    with FlopCounterMode(display=False) as counter:
        objective.reduce(objective(batch), None).backward()
    return counter.get_total_flops() / BATCH


def _with_loading(loading: float, computing: float, num_workers: int) -> float:
    return max(computing, loading / num_workers) if num_workers else computing + loading


def _gpu(launch: LaunchConfig) -> str | None:
    """The GPU that a constraint, a partition or an option of sbatch names."""
    words = [launch.constraint or "", launch.partition or "", *map(str, launch.sbatch.values())]
    said = " ".join(words).lower()
    return next((name for name in PEAKS if name in said), None)


@lru_cache(maxsize=1)
def _core_peak() -> float:
    """What a core of this machine does in a product of matrices: measured, 0.1 s."""
    import torch

    threads, side = torch.get_num_threads(), 384
    torch.set_num_threads(1)
    try:
        a = torch.ones(side, side)
        a @ a
        best, end = float("inf"), time.perf_counter() + 0.1
        while time.perf_counter() < end:
            started = time.perf_counter()
            a @ a
            best = min(best, time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return 2 * side**3 / best
