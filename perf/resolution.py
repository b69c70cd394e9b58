"""How finely batches of a size tell samples apart: SCAN's candidates of one model, found twice in other batches.

    python perf/resolution.py results/SWEEP/RUN [--batch-sizes 32 128 512 2048]

A loss depends on what else is in its batch. The run's final CLIP encodes its pool once, without augmentation; then
the pool is cut into random batches again and again, so that nothing but a sample's company changes. What two cuts
mark alike is the sample's own; the rest is chance, of which no later training can make anything.
Letters in shapes: N samples, B of a batch, d embedding width.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parent.parent)  # or baselines.py beside this file would hide the package

from benchmark.config.job import load_config
from benchmark.config.run import Choice, RunConfig
from benchmark.evaluate import run as evaluation
from benchmark.models.clip.objective import contrastive_losses
from benchmark.options import ConfigError
from benchmark.pool.samples import Pool, PoolError, PoolView
from benchmark.pool.source import make_source
from benchmark.pruner import make_pruner
from benchmark.runs.folder import RunFolder
from benchmark.seeds import generator

AT_ONCE = 512
"""Samples decoded and encoded at a time."""


@dataclass(frozen=True)
class Resolution:
    """Means over all pairs of cuts."""

    batch_size: int
    agreement: Mapping[str, float]
    """By kind: the share of one cut's candidates that are the other's too."""
    at_random: Mapping[str, float]
    """The same for as many samples drawn at random."""
    opposite: float
    """The share of one cut's candidates that the other marks as the other kind."""
    correlation: float
    """Spearman's, of the samples' mean losses in two cuts."""


def measure(
    images: torch.Tensor,
    texts: torch.Tensor,
    logit_scale: torch.Tensor,
    batch_size: int,
    scan: Mapping[str, Any],
    cuts: int = 4,
) -> Resolution:
    """Normalised features, float32 [N, d] twice; ``scan`` are SCAN's options. N mod B samples sit out each cut.

    Raises ValueError for a batch size above N.
    """
    count = len(images)
    if not 2 <= batch_size <= count:
        raise ValueError(f"batch size {batch_size}: must lie between 2 and the {count} samples of the pool")
    found = [_cut(images, texts, logit_scale, batch_size, scan, cut) for cut in range(cuts)]
    kinds = list(found[0][1])
    shares: dict[str, list[float]] = {kind: [] for kind in [*kinds, "opposite", "correlation"]}
    chance: dict[str, list[float]] = {kind: [] for kind in kinds}
    for (loss, marked), (other_loss, other_marked) in itertools.combinations(found, 2):
        both = np.isfinite(loss) & np.isfinite(other_loss)  # in a whole batch of either cut
        for kind in kinds:
            one, other = marked[kind] & both, other_marked[kind] & both
            shares[kind].append(_share(one & other, one))
            chance[kind].append(_share(other, both))
        if len(kinds) == 2:
            one, other = marked[kinds[0]] & both, other_marked[kinds[1]] & both
            shares["opposite"].append(_share(one & other, one))
        shares["correlation"].append(_spearman(loss[both], other_loss[both]))
    mean = {name: float(np.mean(values)) if values else 0.0 for name, values in shares.items()}
    return Resolution(
        batch_size,
        {kind: mean[kind] for kind in kinds},
        {kind: float(np.mean(values)) for kind, values in chance.items()},
        mean["opposite"],
        mean["correlation"],
    )


def _cut(
    images: torch.Tensor,
    texts: torch.Tensor,
    logit_scale: torch.Tensor,
    batch_size: int,
    scan: Mapping[str, Any],
    cut: int,
) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
    """Mean losses, float32 [N], NaN where a sample sat out; and the candidates, bool [N] by kind."""
    order = generator(cut, "resolution", batch_size).permutation(len(images))
    batches = order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)
    pruner = make_pruner(Choice(name="scan", options={**scan, "warmup_threshold": 1.0}), "scan")
    pruner.setup(PoolView(len(images), "resolution"), num_epochs=3, seed=cut)
    for epoch in (0, 1):  # two epochs of one loss end warm-up
        pruner.plan(epoch)
        pruner.observe(batches[0], np.ones((batch_size, 2), dtype=np.float32))
        pruner.end_epoch(epoch)
    pruner.plan(2)
    means = np.full(len(images), np.nan, dtype=np.float32)
    for ids in batches:
        with torch.inference_mode():
            losses = contrastive_losses(images[ids], texts[ids], logit_scale).numpy()
        pruner.observe(ids, losses)
        means[ids] = losses.mean(axis=1)
    return means, pruner.candidates()


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(np.count_nonzero(part) / max(np.count_nonzero(whole), 1))


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    rank, other_rank = rankdata(one), rankdata(other)  # of equal values the mean rank
    return float(np.corrcoef(rank, other_rank)[0, 1])


def features_of(pool: Pool, encoder: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The pool's normalised features of images and of captions, float32 [N, d] each."""
    images, texts = [], []
    for start in range(0, pool.num_samples, AT_ONCE):
        samples = [pool.read(i) for i in range(start, min(start + AT_ONCE, pool.num_samples))]
        images.append(encoder.encode_images([sample.image for sample in samples]))
        texts.append(encoder.encode_texts([sample.caption for sample in samples]))
    joined = (torch.from_numpy(np.concatenate(parts)).float() for parts in (images, texts))
    of_images, of_texts = (torch.nn.functional.normalize(features, dim=1) for features in joined)
    return of_images, of_texts


def table(found: Sequence[Resolution]) -> list[str]:
    """Markdown, a row a batch size."""
    kinds = list(found[0].agreement)
    heads = [f"{kind} again (chance)" for kind in kinds] + ["redundant, then ill-matched", "rank correlation"]
    lines = [f"| batch | {' | '.join(heads)} |", f"| --: | {' | '.join('--:' for _ in heads)} |"]
    for one in found:
        cells = [f"{100 * one.agreement[kind]:.0f} % ({100 * one.at_random[kind]:.0f} %)" for kind in kinds]
        cells += [f"{100 * one.opposite:.1f} %", f"{one.correlation:.2f}"]
        lines.append(f"| {one.batch_size:,} | {' | '.join(cells)} |")
    return lines


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python perf/resolution.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=RunFolder, help="folder of a finished CLIP run that still has its weights")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 128, 512, 2048], metavar="B")
    parser.add_argument("--share", type=float, default=0.3, help="of a batch that is redundant, and ill-matched")
    parser.add_argument("--cuts", type=int, default=4, help="times the pool is cut into batches (default: 4)")
    options = parser.parse_args(words)
    try:
        for line in table(_of_run(options)):
            print(line)
    except (ConfigError, PoolError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _of_run(options: argparse.Namespace) -> list[Resolution]:
    config = load_config(options.run.config)
    if not isinstance(config, RunConfig) or config.framework != "clip":
        raise ConfigError(f"{options.run}: not a CLIP run; the losses of others do not follow from features")
    if options.cuts < 2:
        raise ConfigError(f"--cuts must be at least 2, got {options.cuts}")
    model: Any = evaluation.load_model(options.run, config)
    images, texts = features_of(make_source(config.pool, "pool").training_pool(), model.encoder())
    scan = {"redundant_share": options.share, "ill_matched_share": options.share}
    scale = model.model.logit_scale.detach().exp()
    return [measure(images, texts, scale, size, scan, options.cuts) for size in options.batch_sizes]


if __name__ == "__main__":
    sys.exit(main())
