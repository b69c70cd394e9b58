"""What a training step waits for: calls that stop the host until its device is done, and checkpoints.

    python perf/step.py [--megabytes 300] [--repeats 5] [--only waits|checkpoint]

Waits are counted on a device that computes on the CPU and notes who waits for it (perf/pretended_gpu.py): no GPU
is needed, and what is counted is a GPU's path through the trainer. "Before" is the same trainer with constants,
weights and scores sent as it once sent them. Checkpoints are written in the way of a training and beside it, in
alternating order. Its steps are those of a host whose GPU computes, 20 ms of sleep each; what a checkpoint adds to
them is taken until both are done.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor

sys.path[0] = str(Path(__file__).parent.parent)
from baselines.infobatch import Infobatch  # noqa: E402 (found by the line above)
from benchmark import dist  # noqa: E402
from benchmark.config.sweepfile import read_sweep  # noqa: E402
from benchmark.job import work  # noqa: E402
from benchmark.models.clip import objective as clip  # noqa: E402
from benchmark.plan.plan import make_plan, write_plan  # noqa: E402
from benchmark.pruner import EpochPlan  # noqa: E402
from benchmark.runs.folder import RunFolder  # noqa: E402
from benchmark.training import checkpoint, super_batch, trainer  # noqa: E402
from benchmark.training.lars import Lars  # noqa: E402
from perf.data import machine  # noqa: E402
from perf.pretended_gpu import pretend  # noqa: E402

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
MOCO = {"image_size": 8, "patch_size": 4, "width": 16, "depth": 1, "heads": 2, "hidden_dim": 32, "embed_dim": 16}
LARS = {"precision": "fp16", "optimizer": "lars"}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "CLIP, fp32": ("clip", "full", {}),
    "CLIP, fp16": ("clip", "full", {"precision": "fp16"}),
    "CLIP, fp16, a weight and a log-weight a sample": ("clip", "infobatch", {"precision": "fp16"}),
    "CLIP, 2 micro-batches": ("clip", "full", {"accumulate": 2}),
    "CLIP, chosen from a super-batch": ("clip", "big_loss", {}),
    "MoCo v3, fp16": ("moco", "full", {"precision": "fp16"}),
    "MoCo v3, fp16, LARS": ("moco", "full", LARS),
    "MoCo v3, chosen from a super-batch": ("moco", "big_loss", {}),
}
"""Framework, method, options of ``train``."""
STEP_SECONDS = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=300, help="size of the checkpoint")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("waits", "checkpoint"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}\n")
    if options.only != "checkpoint":
        print("| waits for the device a step | before | now |\n| --- | --: | --: |")
        for name, case in CASES.items():
            before, now = (_in_child(_waits, case, is_before) for is_before in (True, False))
            print(f"| {name} | {before} | {now} |")
    if options.only != "waits":
        print("\n".join(_checkpoint_table(options.megabytes, options.repeats)))


# --- waits --------------------------------------------------------------------------------------------------


def _in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """A process has one pretended device, for ever."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def _waits(case: tuple[str, str, dict[str, Any]], is_before: bool) -> int:
    """Calls that wait in the second step of a small run."""
    framework, method, train = case
    Infobatch.plan = _weighed(Infobatch.plan)  # type: ignore[method-assign]
    if is_before:
        _as_before()
    by_step: list[int] = []
    original = trainer.Trainer._step
    with tempfile.TemporaryDirectory() as name, pretend() as (device, waits):

        def step(self: trainer.Trainer, *arguments: Any) -> None:
            before = len(waits.calls)
            original(self, *arguments)
            by_step.append(len(waits.calls) - before)

        trainer.Trainer._step = step  # type: ignore[method-assign]
        dist.pick_device = lambda _: device
        grid = {
            "framework": framework,
            "model": {"small": CLIP if framework == "clip" else MOCO},
            "pool": {"shapes": {"num_samples": 64}},
            "pruner": method,
            "train": {"epochs": 1, "batch_size": 16, "lr": 1e-3, "log_every": 100, **train},
        }
        path = Path(name) / "step.yaml"
        path.write_text(json.dumps({"name": "step", "grid": [grid]}))
        sweep = read_sweep(path)
        (run,) = make_plan(sweep, Path(name))
        write_plan([run], sweep, Path(name), "")
        work._train(RunFolder(run.folder), run.config, lambda *_: None)
    return by_step[1]


def _weighed(original: Callable[[Any, int], EpochPlan]) -> Callable[[Any, int], EpochPlan]:
    def plan(self: Any, epoch: int) -> EpochPlan:
        keep = original(self, epoch).keep
        weight = np.full(len(keep), 0.5, dtype=np.float32)
        return EpochPlan(keep, weight=weight, log_negative=np.log(weight), observe=True)

    return plan


def _as_before() -> None:
    """Constants made in each forward pass, weights copied, scores and the choice copied one by one."""

    def normalised(images: Tensor, *_: Tensor) -> Tensor:
        mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN, device=images.device).view(3, 1, 1) * 255
        std = torch.tensor(open_clip.OPENAI_DATASET_STD, device=images.device).view(3, 1, 1) * 255
        return images.permute(0, 3, 1, 2).float().sub_(mean).div_(std)

    def of_samples(self: trainer.Trainer, values: np.ndarray | None, ids: Tensor) -> Tensor | None:
        return None if values is None else torch.from_numpy(values[ids.numpy()]).to(self.device)

    def gathered(ids: Tensor, losses: Tensor, similarity: Tensor) -> super_batch.Scores:
        return super_batch.Scores(*(dist.gather(t).cpu() for t in (ids.to(losses.device), losses, similarity)))

    clip.normalised = normalised
    trainer.Trainer._of_samples = of_samples  # type: ignore[method-assign]
    super_batch.gathered = gathered
    super_batch.sent = lambda tensor, device: tensor.to(device)
    Lars._step_supports_amp_scaling = False


# --- checkpoints --------------------------------------------------------------------------------------------


def _checkpoint_table(megabytes: int, repeats: int) -> list[str]:
    """What a training waits for a checkpoint, and what it adds in all, in its way and beside it."""
    count = 30  # tensors, as of weights and two moments
    state = {f"{i}": torch.randn(megabytes * 250_000 // count) for i in range(count)}
    waited: dict[str, list[float]] = {"in its way": [], "beside it": []}
    added: dict[str, list[float]] = {way: [] for way in waited}
    with tempfile.TemporaryDirectory() as name:
        seconds = _timed(lambda: checkpoint.save(Path(name), state, 0))
        steps = max(1, round(3 * seconds / STEP_SECONDS))
        for repeat in range(repeats):
            alone = _timed(lambda: [time.sleep(STEP_SECONDS) for _ in range(steps)])
            for way in list(added)[:: 1 if repeat % 2 else -1]:
                writer = checkpoint.Writer(Path(name))

                def save(way: str = way, writer: checkpoint.Writer = writer, step: int = repeat) -> None:
                    writer.save(state, step)
                    if way == "in its way":
                        writer.wait()

                started = time.perf_counter()
                waited[way].append(_timed(save))
                for _ in range(steps):
                    time.sleep(STEP_SECONDS)
                writer.wait()
                added[way].append(time.perf_counter() - started - alone)
    lines = [
        "",
        f"| checkpoint of {megabytes} MB | the step waits, s | it adds in all, s |",
        "| --- | --: | --: |",
    ]
    lines += [f"| written {way} | {_spread(waited[way])} | {_spread(added[way])} |" for way in waited]
    ratios = [[b / a for a, b in zip(*of.values(), strict=True)] for of in (waited, added)]
    return [*lines, f"| beside it over in its way | {_spread(ratios[0])} | {_spread(ratios[1])} |"]


def _timed(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
