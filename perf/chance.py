"""How many pairs full data matches worse than chance, beside how many captions were swapped: the rule of
``worse_than_chance``, chosen by this table.

    python -m benchmark.pool prepare emoji && python -m benchmark.pool prepare clipart
    python perf/chance.py [--shares 0 0.1 0.3 0.5] [--seed 1000]

Trains the mini ViT-S/8 on all of emoji and clip art, once a share, 2 to 4 minutes of a core each, and looks at
epochs' losses: the share of pairs above log B in either direction, how many of them were swapped, and how many of
the swapped are among them. No held-out number takes part.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml

sys.path[0] = str(Path(__file__).parent.parent)  # or baselines.py beside this file would hide the package
from benchmark import sweep  # noqa: E402 (found by the line above)
from benchmark.config.run import Choice  # noqa: E402
from benchmark.pool import make_source  # noqa: E402

SETTINGS = Path(__file__).parent.parent / "sweeps/mini_noise.yaml"
EPOCHS = (2, 3, 4, 8, 11, 15)
WATCH = '''
from dataclasses import dataclass

import numpy as np

from benchmark.pruner import EpochPlan, Pruner


@dataclass
class Watch(Pruner):
    """Full data; each epoch's losses are left in a file."""

    folder: str

    def setup(self, pool, *, num_epochs, seed, num_ranks=1):
        super().setup(pool, num_epochs=num_epochs, seed=seed, num_ranks=num_ranks)
        self.loss = np.full((pool.num_samples, 2), np.nan, dtype=np.float32)

    def plan(self, epoch):
        return EpochPlan(np.ones(self.pool.num_samples, dtype=bool), observe=True)

    def observe(self, ids, losses):
        self.loss[ids] = losses

    def end_epoch(self, epoch):
        np.save(f"{self.folder}/{epoch}.npy", self.loss)

    def state_dict(self):
        return {"loss": self.loss}

    def load_state_dict(self, state):
        self.loss = state["loss"]
'''


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.1, 0.3, 0.5], help="captions swapped")
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args()
    (grid,) = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))["grid"]
    print(
        f"{'swapped':>8} {'epoch':>5} {'loss':>5} {'above chance':>12} {'of them swapped':>15} {'of swapped':>10}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "watch.py").write_text(WATCH, encoding="utf-8")
        words = f"--methods {name} --cluster local --results {name}/runs".split()
        for share in options.shares:
            plant = {"plant": {"swapped_captions": share}} if share else {}
            told = {**grid, "pool": {"emoji_clipart": plant}, "seed": options.seed, "evaluate": []}
            told["pruner"] = {"watch": {"folder": name}}
            file = folder / f"chance{share:g}.yaml"
            file.write_text(yaml.safe_dump({"name": file.stem, "grid": [told]}), encoding="utf-8")
            if sweep.main([str(file), *words]):
                return 1
            show(share, plant, grid["train"]["batch_size"], folder)
    return 0


def show(share: float, plant: dict[str, object], batch: int, folder: Path) -> None:
    pool = make_source(Choice(name="emoji_clipart", options=plant), "pool").training_pool()
    swapped = pool.truth.get("ill_matched", np.zeros(pool.num_samples, dtype=bool))
    for epoch in EPOCHS:
        losses = np.load(folder / f"{epoch}.npy")  # [N, 2]
        above = (losses > math.log(batch)).any(axis=1)
        right = np.count_nonzero(above & swapped)
        precision = f"{right / max(np.count_nonzero(above), 1):.2f}" if share else "-"
        recall = f"{right / np.count_nonzero(swapped):.2f}" if share else "-"
        mean = float(np.nanmean(losses))
        print(f"{share:8.0%} {epoch:5} {mean:5.2f} {above.mean():12.1%} {precision:>15} {recall:>10}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
