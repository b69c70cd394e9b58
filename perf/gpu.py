"""How busy a GPU is kept: images a second and share of the peak, from memory and from shards, beside open_clip.

    PYTHONPATH=wds python perf/gpu.py --out gpu.json       # one GPU, under 8 minutes in all
    python perf/gpu.py --quick                             # tiny models, to try the script without one

For CLIP's ViT-B/16 and ViT-S/16 and both of MoCo v3's ViTs, in bf16: our step on a batch that stays on the device;
a whole training of ours from tar shards; for CLIP open_clip's own trainer on the same shards (webdataset 0.2.86,
see perf/data.py). An epoch is as long as the step's speed lets ``--seconds`` hold, and the first, which starts
workers, is not counted. The share of the peak is that of the maker's data sheet (benchmark/plan/roofline.py) by
torch's own count of FLOPs. Then what the device takes for MoCo's views and for k-means. Rows are written to
``--out`` as they come; what would begin after ``--minutes`` is left out and named.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path[0] = str(Path(__file__).parent.parent)  # or this file would hide the package of its name
from baselines._clusters import cluster  # noqa: E402 (found by the line above)
from benchmark.config.run import Choice, TrainConfig  # noqa: E402
from benchmark.files import write_text  # noqa: E402
from benchmark.models.frameworks import resolve_model  # noqa: E402
from benchmark.plan import roofline  # noqa: E402
from benchmark.pool.storage.shards import ShardPool  # noqa: E402
from perf import open_clip_trainer, views  # noqa: E402
from perf.data import WEBDATASET, machine, webdataset_version, write_shards  # noqa: E402
from perf.train import SIZES, device_here, our_seconds, step_alone  # noqa: E402

VIT_S = {**SIZES["large"]["clip"], "embed_dim": 384}
VIT_S["vision_cfg"] = {**VIT_S["vision_cfg"], "width": 384}
VIT_S["text_cfg"] = {**VIT_S["text_cfg"], "width": 384, "heads": 6}
MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "CLIP ViT-B/16": ("clip", SIZES["large"]["clip"], 512),
    "CLIP ViT-S/16": ("clip", VIT_S, 1024),
    "MoCo v3 ViT-S": ("moco", {"width": 384, "depth": 12, "heads": 12}, 512),
    "MoCo v3 ViT-B": ("moco", {"width": 768, "depth": 12, "heads": 12}, 256),
}
"""Framework, options and batch of a GPU."""
QUICK: dict[str, tuple[str, dict[str, Any], int]] = {
    "CLIP tiny": ("clip", SIZES["small"]["clip"], 32),
    "MoCo v3 tiny": ("moco", SIZES["small"]["moco"], 32),
}
PER_SHARD = 512


def main() -> None:
    options = _options()
    found: dict[str, Any] = {"machine": machine(), "rows": [], "left_out": []}
    last = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="scan-bench-perf-") as name:
        write_shards(Path(name) / "all", options.shards, PER_SHARD, longest=256)
        for what, measure in _parts(Path(name), options):
            if time.monotonic() > last:
                found["left_out"].append(what)
                continue
            try:
                row = {"what": what, **measure()}
            except torch.cuda.OutOfMemoryError as error:
                row = {"what": what, "error": str(error).splitlines()[0]}
            found["rows"].append(row)
            print(json.dumps(row), flush=True)
            if options.out:
                write_text(options.out, json.dumps(found, indent=1) + "\n")
    if found["left_out"]:
        print(f"left out for want of time: {', '.join(found['left_out'])}", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where rows are written as JSON")
    parser.add_argument("--minutes", type=float, default=6.5, help="after which nothing more begins")
    parser.add_argument("--seconds", type=float, default=8, help="that an epoch is to take")
    parser.add_argument("--shards", type=int, default=80, help=f"tar shards of {PER_SHARD} images that are made")
    parser.add_argument("--workers", type=int, default=max(1, len(os.sched_getaffinity(0)) - 2))
    parser.add_argument("--quick", action="store_true", help="tiny models and epochs")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.shards, options.workers = 1, 1, 1
    return options


@dataclass
class Model:
    """A model in training, and what is measured of it."""

    name: str
    framework: str
    options: dict[str, Any]
    batch: int
    folder: Path
    """Whose ``all`` holds the shards."""
    asked: argparse.Namespace
    rate: float = 1000.0
    """Samples a second of the step alone, once it is known."""

    @property
    def choice(self) -> Choice:
        return resolve_model(self.framework, Choice(name="perf", options=self.options), "model")

    @property
    def config(self) -> TrainConfig:
        return TrainConfig(
            epochs=2,
            batch_size=self.batch,
            lr=5e-4,
            warmup_epochs=1,
            beta2=0.98,
            epsilon=1e-6,
            precision="bf16",
            num_workers=self.asked.workers,
            log_every=50,
            decoder="torchvision" if self.framework == "clip" else "pillow",
            augment="device" if self.framework == "moco" else "pillow",
        )

    def from_memory(self) -> dict[str, Any]:
        self.rate = step_alone(self.framework, self.choice, self.config)
        return self._told(self.rate)

    def from_shards(self) -> dict[str, Any]:
        part, steps = self._part()
        with Waits() as waits:
            seconds = our_seconds(self.framework, self.choice, ShardPool.open(str(part)), self.config)
        return {**self._told(steps * self.batch / seconds[-1]), "waits_a_step": waits.count / (2 * steps)}

    def by_open_clip(self) -> dict[str, Any]:
        part, steps = self._part()
        samples = len(list(part.iterdir())) * PER_SHARD
        seconds = open_clip_trainer.epoch_seconds(self.options, part, samples, self.config, device_here())
        return self._told(steps * self.batch / seconds[-1])

    def _told(self, rate: float) -> dict[str, Any]:
        flops, peak = roofline.flops_per_sample(self.framework, self.choice), _peak()
        share = {} if peak is None else {"share_of_peak": rate * flops / peak}
        return {"samples_per_second": rate, "batch": self.batch, "gflops_a_sample": flops / 1e9, **share}

    def _part(self) -> tuple[Path, int]:
        """A folder of as many of the shards as an epoch of ``--seconds`` takes, and its steps."""
        wanted = max(2 * self.batch, int(self.rate * self.asked.seconds))
        count = min(self.asked.shards, -(-wanted // PER_SHARD))
        part = self.folder / f"part-{count}"
        if not part.exists():
            part.mkdir()
            for shard in sorted((self.folder / "all").glob("*.tar"))[:count]:
                os.link(shard, part / shard.name)
        return part, count * PER_SHARD // self.batch


def _parts(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """What is measured, the most telling first."""
    for name, (framework, model, batch) in (QUICK if options.quick else MODELS).items():
        one = Model(name, framework, model, batch, folder, options)
        yield f"{name}, from memory", one.from_memory
        yield f"{name}, from shards", one.from_shards
        if framework == "clip" and webdataset_version() == WEBDATASET:
            yield f"{name}, open_clip's trainer", one.by_open_clip
    yield "MoCo v3's views, on the device", lambda: _views(8 if options.quick else 64)
    yield "k-means", lambda: _k_means(*((2000, 20) if options.quick else (2_000_000, 2000)))


def _peak() -> float | None:
    """Dense operations a second in half precision of the GPU that is here; None where it is not known."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name().lower()
    return next((1e12 * half for known, (half, _) in roofline.PEAKS.items() if known in name), None)


class Waits(warnings.catch_warnings):  # type: ignore[type-arg]
    """Counts what torch warns of when the host waits for the GPU; none without one."""

    def __init__(self) -> None:
        super().__init__(record=True)
        self.count = 0

    def __enter__(self) -> Waits:  # type: ignore[override]
        self.log = super().__enter__()
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("warn")
        return self

    def __exit__(self, *error: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")
        self.count = sum("synchroniz" in str(warning.message) for warning in self.log or ())
        super().__exit__(*error)


def _views(count: int) -> dict[str, Any]:
    """Pairs of views a second that the device makes of crops."""
    found = views.measured(views.files_of((341, 256), count), rounds=3)[views.PART]
    return {"pairs_per_second": 1 / float(np.median(found))}


def _k_means(samples: int, clusters: int) -> dict[str, Any]:
    rows = np.random.default_rng(0).standard_normal((samples, 512), dtype=np.float32).astype(np.float16)
    started = time.perf_counter()
    groups = cluster(rows, clusters, iterations=20, seed=0)
    seconds = time.perf_counter() - started
    return {"samples": samples, "clusters": len(groups.centroids), "iterations": 20, "seconds": seconds}


if __name__ == "__main__":
    main()
