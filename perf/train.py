"""Speed of training: ours beside open_clip's trainer and a plain MoCo v3; SCAN's whole runs beside full data.

    PYTHONPATH=wds python perf/train.py                    # small models, for two cores
    PYTHONPATH=wds python perf/train.py --size large       # ViT-B/16 and ViT-S at 224 px in bf16, for a GPU
    python perf/train.py --only scan                       # one part: clip, moco or scan
    python perf/train.py --within 1 --minutes 90           # pairs until a ratio is known to 1 %, at most so long

Both sides train the same network on the same shards with the same batch, precision, threads and workers.
open_clip's trainer is its own `main`, whose epochs are timed; it needs webdataset 0.2.86 (see perf/data.py).
The order alternates from round to round, and the first epoch of each, which starts workers, is left out. A round
is a pair: its ratio is told as the geometric mean over rounds with a 95 % interval (Student's t on its logarithm).
"Step alone" is our model's step on one batch that stays on the device: no data path and no logging could beat it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

sys.path[0] = str(Path(__file__).parent.parent)  # or this file would hide the package of its name
from analysis.blocks.statistics import t_interval  # noqa: E402 (found by the line above)
from baselines.full import Full  # noqa: E402
from baselines.scan import Scan  # noqa: E402
from benchmark.config.run import Choice, TrainConfig  # noqa: E402
from benchmark.models.frameworks import make_objective, resolve_model  # noqa: E402
from benchmark.pool.samples import Sample  # noqa: E402
from benchmark.pool.storage.shards import ShardPool  # noqa: E402
from benchmark.pruner import Pruner  # noqa: E402
from benchmark.runs.folder import RunFolder  # noqa: E402
from benchmark.training.optim import make_optimizer  # noqa: E402
from benchmark.training.trainer import AUTOCAST, Trainer  # noqa: E402
from perf import open_clip_trainer, plain_moco  # noqa: E402
from perf.data import INSTALL, WEBDATASET, machine, webdataset_version, write_shards  # noqa: E402

SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "clip": {
            "embed_dim": 64,
            "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 128, "layers": 4, "head_width": 32},
            "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
        },
        "moco": {
            "image_size": 32,
            "patch_size": 8,
            "width": 128,
            "depth": 4,
            "heads": 4,
            "hidden_dim": 512,
            "embed_dim": 128,
        },
        "side": 64,
        "samples": (4096, 2048),
        "batch": 128,
        "precision": "fp32",
        "workers": 1,
    },
    "large": {
        "clip": {
            "embed_dim": 512,
            "vision_cfg": {"image_size": 224, "patch_size": 16, "width": 768, "layers": 12},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
        },
        "moco": {"width": 384, "depth": 12, "heads": 12},
        "side": 256,
        "samples": (20_000, 20_000),
        "batch": 256,
        "precision": "bf16",
        "workers": 12,
    },
}
"""CLIP's and MoCo's networks; the longest side of the images; samples of an epoch of each."""
SCAN_EPOCHS = 8
"""Of a whole run: 2 of warm-up, then a cycle and a half."""


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    size = SIZES[options.size]
    with tempfile.TemporaryDirectory(prefix="scan-bench-perf-") as name:
        folder = Path(name)
        lines = [
            f"size {options.size}: batch {size['batch']}, {size['precision']}, {size['workers']} workers,"
            f" {_rounds(options)} of {options.epochs} epochs in alternating order, one thread; {machine()}",
            "",
        ]
        for part in options.only or PARTS:
            lines += PARTS[part](folder, size, options)
    print("\n".join(lines))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--only", nargs="*", choices=tuple(PARTS), help="the parts to measure (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="at least so many")
    parser.add_argument(
        "--within", type=float, metavar="PERCENT", help="more rounds, until every ratio's interval is +- this"
    )
    parser.add_argument("--minutes", type=float, default=60, help="after which --within adds no round to a part")
    parser.add_argument("--epochs", type=int, default=2, help="timed epochs of a round")
    parser.add_argument("--quick", action="store_true", help="one round of one epoch on an eighth of the samples")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.epochs = 1, 1
    return options


def _rounds(options: argparse.Namespace) -> str:
    if options.within is None:
        return f"{options.rounds} rounds"
    return f"{options.rounds} rounds or more, until ratios are known to {options.within:g} %,"


# --- the parts ----------------------------------------------------------------------------------------------


def clip_table(folder: Path, size: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Samples per second of our CLIP loop and of open_clip's trainer."""
    samples, shards = _shards(folder, size, 0, options)
    choice = resolve_model("clip", Choice(name="perf", options=size["clip"]), "model")
    config = _config(size, options.epochs + 1)
    rivals: dict[str, Callable[[], list[float]]] = {
        "CLIP, ours": lambda: our_seconds("clip", choice, ShardPool.open(str(shards)), config)
    }
    if webdataset_version() == WEBDATASET:
        rivals["CLIP, open_clip's trainer"] = lambda: open_clip_trainer.epoch_seconds(
            size["clip"], shards, samples, config, device_here()
        )
    else:
        print(f"webdataset {WEBDATASET} is needed to compare with open_clip: {INSTALL}", file=sys.stderr)
    alone = step_alone("clip", choice, config)
    return _speed_table(_measured(rivals, options), samples, config.batch_size, ("CLIP, step alone", alone))


def moco_table(folder: Path, size: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Samples (two views each) per second of our MoCo v3 loop and of a plain one."""
    samples, shards = _shards(folder, size, 1, options)
    choice = resolve_model("moco", Choice(name="perf", options=size["moco"]), "model")
    config = _config(size, options.epochs + 1)
    pool = ShardPool.open(str(shards))
    dtype, device = AUTOCAST.get(config.precision), device_here()

    def plain() -> list[float]:
        objective: Any = make_objective("moco", choice, 0)
        return plain_moco.epoch_seconds(objective, pool, config, device, dtype)

    rivals = {"MoCo v3, ours": lambda: our_seconds("moco", choice, pool, config), "MoCo v3, plain": plain}
    alone = step_alone("moco", choice, config)
    return _speed_table(_measured(rivals, options), samples, config.batch_size, ("MoCo v3, step alone", alone))


def scan_table(folder: Path, size: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Whole runs: SCAN's seconds over those of full data, next to the share of samples seen.

    A threshold of 1 ends warm-up after the second epoch, so that most of the short run prunes.
    """
    _, shards = _shards(folder, size, 0, options)
    choice = resolve_model("clip", Choice(name="perf", options=size["clip"]), "model")
    config, pool = _config(size, SCAN_EPOCHS), ShardPool.open(str(shards))
    seen: dict[str, int] = {}

    def whole(name: str, pruner: Callable[[], Pruner]) -> Callable[[], list[float]]:
        def run() -> list[float]:
            with tempfile.TemporaryDirectory() as run_folder:
                facts = _trainer(RunFolder(run_folder), "clip", choice, pool, config, pruner()).fit()
            seen[name] = facts["samples_seen"]
            return [0.0, facts["seconds"]]

        return run

    runs = {"full": whole("full", Full), "scan": whole("scan", lambda: Scan(warmup_threshold=1.0))}
    found = _measured(runs, options)
    ratios = _ratios(found["scan"], found["full"])
    share = seen["scan"] / seen["full"]
    return [
        f"| whole run, {SCAN_EPOCHS} epochs | seconds | samples seen | seconds over full's | samples over full's |"
        " overhead |",
        "| --- | --: | --: | --: | --: | --: |",
        f"| full | {_median(found['full']):.1f} | {seen['full']:,} | 1 | 1 | |",
        f"| scan | {_median(found['scan']):.1f} | {seen['scan']:,} | {_spread(ratios)} | {share:.3f} |"
        f" {100 * (statistics.geometric_mean(ratios) / share - 1):+.1f} % |",
        "",
    ]


PARTS = {"clip": clip_table, "moco": moco_table, "scan": scan_table}


# --- the sides ----------------------------------------------------------------------------------------------


def _config(size: dict[str, Any], epochs: int) -> TrainConfig:
    return TrainConfig(
        epochs=epochs,
        batch_size=size["batch"],
        lr=5e-4,
        warmup_epochs=1,
        beta2=0.98,
        epsilon=1e-6,
        precision=size["precision"],
        num_workers=size["workers"],
    )


def _trainer(
    folder: RunFolder, framework: str, choice: Choice, pool: ShardPool, config: TrainConfig, pruner: Pruner
) -> Trainer:
    return Trainer(folder, config, 0, pool, make_objective(framework, choice, 0), pruner, device_here())


def our_seconds(framework: str, choice: Choice, pool: ShardPool, config: TrainConfig) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        _trainer(RunFolder(folder), framework, choice, pool, config, Full()).fit()
        lines = [json.loads(line) for line in RunFolder(folder).log.read_text().splitlines()]
    return [line["seconds"] for line in lines if line["kind"] == "epoch"]


def step_alone(framework: str, choice: Choice, config: TrainConfig) -> float:
    """Samples per second of our step on one batch that stays on the device: median of 10 after 3."""
    device = device_here()
    objective = make_objective(framework, choice, 0).to(device).train()
    optimizer = make_optimizer(objective, config)
    dtype, b = AUTOCAST.get(config.precision), config.batch_size
    objective.configure(config)
    example = objective.transform(Sample(Image.new("RGB", (256, 256), "green"), "a green square"))
    tensors = tuple(part.expand(b, *part.shape).contiguous().to(device) for part in example)
    seconds = []
    for _ in range(13):
        started = time.perf_counter()
        objective.before_step(0.5)
        optimizer.zero_grad(set_to_none=True)
        autocast = lambda: torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)  # noqa: E731
        objective.backward(objective, tensors, None, lambda loss: loss, autocast, 1)
        optimizer.step()
        objective.after_step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return b / statistics.median(seconds[3:])


# --- measuring ----------------------------------------------------------------------------------------------


def _measured(
    rivals: dict[str, Callable[[], list[float]]], options: argparse.Namespace
) -> dict[str, list[list[float]]]:
    """Seconds of the timed epochs, by rival and round; every second round runs in reverse."""
    found: dict[str, list[list[float]]] = {name: [] for name in rivals}
    last = time.monotonic() + 60 * options.minutes
    number = 0
    while number < options.rounds or (options.within and time.monotonic() < last and not _known(found, options)):
        for name, run in list(rivals.items())[:: 1 if number % 2 == 0 else -1]:
            found[name].append(run()[1:])
            print(f"{name}: {', '.join(f'{s:.2f}' for s in found[name][-1])} s", file=sys.stderr)
        number += 1
    return found


def _known(found: dict[str, list[list[float]]], options: argparse.Namespace) -> bool:
    """Whether the interval of every rival's ratio to the first reaches no further than ``within`` percent.

    Asked after even rounds alone, when each has gone first as often.
    """
    first, *others = found.values()
    if len(first) % 2:
        return False
    intervals = [t_interval(math.log(ratio) for ratio in _ratios(rounds, first)) for rounds in others]
    return all(i is not None and math.expm1((i[1] - i[0]) / 2) <= options.within / 100 for i in intervals)


def _ratios(rounds: list[list[float]], base: list[list[float]]) -> list[float]:
    """Round by round: median seconds over the median seconds of ``base``."""
    return [statistics.median(r) / statistics.median(b) for r, b in zip(rounds, base, strict=True)]


def _speed_table(
    found: dict[str, list[list[float]]], samples: int, batch: int, alone: tuple[str, float]
) -> list[str]:
    """Rows with samples per second and the ratio of the first rival to each, round by round."""
    trained = samples // batch * batch
    lines = ["| loop | samples/s | ours over this |", "| --- | --: | --: |"]
    first = next(iter(found.values()))
    for name, rounds in found.items():
        ratio = "1" if rounds is first else _spread(_ratios(rounds, first))
        lines.append(f"| {name} | {trained / _median(rounds):.0f} | {ratio} |")
    name, rate = alone
    return [*lines, f"| {name} | {rate:.0f} | {trained / _median(first) / rate:.2f} |", ""]


def _median(rounds: list[list[float]]) -> float:
    return statistics.median(second for seconds in rounds for second in seconds)


def _spread(ratios: list[float]) -> str:
    """``0.845 [0.838, 0.852], n = 12``; without an interval for one pair."""
    interval = t_interval(map(math.log, ratios))
    shown = "" if interval is None else f" [{math.exp(interval[0]):.3f}, {math.exp(interval[1]):.3f}]"
    return f"{statistics.geometric_mean(ratios):.3f}{shown}, n = {len(ratios)}"


def _shards(folder: Path, size: dict[str, Any], which: int, options: argparse.Namespace) -> tuple[int, Path]:
    """How many samples an epoch has, and 8 tar shards that hold them."""
    samples = size["samples"][which] // (8 if options.quick else 1)
    shards = folder / f"shards-{samples}"
    write_shards(shards, 8, samples // 8, longest=size["side"])
    return samples, shards


def device_here() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
