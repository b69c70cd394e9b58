"""What each option of the published arm changes, by itself and together, on tiny models and 2 or 4 CPU ranks.

    python perf/published.py [--ranks 2 4] [--seeds 3]

A tiny CLIP (ResNet) and a tiny MoCo v3 train on rendered shapes with SCAN, once with each option and once without.
Told are the first step's gradient, SCAN's candidates of the first preparation and the loss of the last epoch.
Seeds are paired; the last row of each model is our arm on one rank, whose difference is rounding alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parent.parent)  # or baselines.py beside this file would hide the package

import numpy as np
import torch
import torch.distributed as td
import yaml

from benchmark.config import published
from benchmark.config.sweepfile import read_sweep
from benchmark.job import process
from benchmark.models.clip.objective import Clip  # noqa: F401 (before a fork: importing open_clip takes seconds)
from benchmark.plan.plan import make_plan, write_plan
from benchmark.runs.record import read_record
from benchmark.tracking.epoch_files import load_marks
from benchmark.training import trainer

SAMPLES, BATCH = 256, 32
SCAN = {"warmup_threshold": 1.0}  # prepares in the third epoch
TRAIN = {"epochs": 6, "batch_size": BATCH, "lr": 1.0e-3, "warmup_steps": 8, "log_every": 8, "epsilon": 1.0e-6}
HALF = {"precision": "bf16"}
"""For both sides of what half precision changes: fp16 would leave out first steps until its scale fits."""
VISION = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
CLIP = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
MOCO = {
    "image_size": 16, "patch_size": 4, "width": 32, "depth": 2, "heads": 2, "hidden_dim": 64, "embed_dim": 16,
    "eval_crop": 1.0,
}  # fmt: skip
MODELS = {"clip": {"resnet": CLIP}, "moco": {"vit": MOCO}}


@dataclass(frozen=True)
class Outcome:
    """What a run left."""

    gradient: np.ndarray
    """float64 [P]: of the first step, over all parameters."""
    marks: np.ndarray
    """bool [N]: candidates of the first preparation."""
    loss: float
    """Mean of the last epoch."""


def grid(framework: str, seed: int, options: Mapping[str, Any], arm: bool) -> dict[str, Any]:
    pruner = {**SCAN, **{k: v for k, v in options.items() if k in published.SCAN["moco"]}}
    if framework == "moco":
        pruner |= published.SHARES["moco"]
    train = {**TRAIN, **{k: v for k, v in options.items() if k not in published.SCAN["moco"]}}
    pool = {"shapes": {"num_samples": SAMPLES, "image_size": 32}}
    told = {"published": True} if arm else {}
    return {
        "framework": framework, "model": MODELS[framework], "pool": pool, "pruner": {"scan": pruner}, "seed": seed,
        "train": train, **told,
    }  # fmt: skip


def trained(folder: Path, one: dict[str, Any], ranks: int) -> Outcome:
    folder.mkdir(parents=True)
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"name": "arm", "grid": [one]}))
    sweep = read_sweep(path)
    (run,) = make_plan(sweep, folder)
    write_plan([run], sweep, folder, "")
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_work, args=(folder, run.folder, rank, ranks)) for rank in range(ranks)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit(f"{folder}: a rank failed; see {run.folder / 'error.json'}")
    marks = next(load_marks(run.folder, SAMPLES)) & 0b1100_0000 > 0
    loss = read_record(run.folder / "record.json")["training"]["by_epoch"][-1]["loss"]
    return Outcome(np.load(folder / "gradient.npy"), marks, loss)


def _work(folder: Path, run: Path, rank: int, ranks: int) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        td.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=ranks)
    clip = trainer.clip_gradient

    def spy(objective: torch.nn.Module, max_norm: float | None) -> None:
        if rank == 0 and not (folder / "gradient.npy").exists():
            found = [p.grad.double().flatten() for p in objective.parameters() if p.grad is not None]
            np.save(folder / "gradient.npy", torch.cat(found).numpy())
        clip(objective, max_norm)

    trainer.clip_gradient = spy
    process.run(run)


@dataclass(frozen=True)
class Bench:
    """Runs of one model on a number of ranks, in a folder a case."""

    folder: Path
    framework: str
    ranks: int
    seeds: int

    def runs(
        self, case: str, options: Mapping[str, Any], arm: bool = False, on: int | None = None
    ) -> list[Outcome]:
        """One a seed; ``on`` so many ranks, if not the bench's."""
        grids = [grid(self.framework, seed, options, arm) for seed in range(self.seeds)]
        return [trained(self.folder / case / str(seed), one, on or self.ranks) for seed, one in enumerate(grids)]


def row(name: str, ranks: int, base: list[Outcome], found: list[Outcome]) -> str:
    pairs = list(zip(base, found, strict=True))
    size = np.mean([np.linalg.norm(b.gradient) for b, _ in pairs])
    change = np.mean([np.linalg.norm(f.gradient - b.gradient) for b, f in pairs]) / size
    length = np.mean([np.linalg.norm(f.gradient) for _, f in pairs]) / size
    common = np.mean([(b.marks & f.marks).sum() / (b.marks | f.marks).sum() for b, f in pairs])
    losses = [f.loss - b.loss for b, f in pairs]
    deviation = np.std(losses, ddof=1) if len(losses) > 1 else float("nan")
    told = f"{change:.1e} | {length:.3f} | {100 * common:.0f} % | {np.mean(losses):+.4f} (sd {deviation:.4f})"
    return f"| {name} | {ranks} | {told} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for framework in MODELS:
            cases = {**published.TRAIN[framework], **published.SCAN[framework]}
            print(f"\n| {framework} | ranks | first gradient: change | its length | same candidates | last loss |")
            print("| --- | --: | --: | --: | --: | --: |", flush=True)
            for ranks in asked.ranks:
                bench = Bench(Path(name) / framework / str(ranks), framework, ranks, asked.seeds)
                base, half = bench.runs("base", {}), bench.runs("half", HALF)
                for option, value in cases.items():
                    is_half = option == "logits"
                    found = bench.runs(option, {option: value, **(HALF if is_half else {})})
                    print(
                        row(f"`{option}: {str(value).lower()}`", ranks, half if is_half else base, found),
                        flush=True,
                    )
                print(row("`published: true`", ranks, half, bench.runs("arm", HALF, arm=True)), flush=True)
                print(row("ours on 1 rank", ranks, base, bench.runs("alone", {}, on=1)), flush=True)


if __name__ == "__main__":
    main()
