"""After training: what lies in a run's folder of losses and candidates -> ``Pruned``, small enough to be kept.

N below is the number of samples of the pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from benchmark.pool.samples import Pool
from benchmark.pruner import Pruner, unpack
from benchmark.runs.folder import RunFolder
from benchmark.runs.pruned import MOST_VISITS, ClassCount, Preparation, Pruned
from benchmark.tracking import gallery
from benchmark.tracking.epoch_files import candidates_of, losses_of
from benchmark.tracking.visits import VisitTracker

NUM_BINS = 40
TAIL = 0.001
"""Share of an epoch's losses beyond either end of a histogram; they count in its first and last bin."""

Bits = Mapping[str, np.ndarray]
"""Candidates by kind, uint8 [ceil(N / 8)]."""


def summarise(
    folder: RunFolder, epochs: int, seed: int, pool: Pool, pruner: Pruner, tracker: VisitTracker
) -> Pruned:
    """What a run that has ended leaves for the report. Raises ValueError for files of another pool."""
    visits, count = tracker.visits, pool.num_samples
    losses = losses_of(folder, count)
    kinds = tuple(pruner.candidates())
    candidates = candidates_of(folder, kinds, count) if kinds else {}
    times = how_often({k: unpack(bits, count) for k, bits in one.items()} for one in candidates.values())
    picks: gallery.Picks = {}
    if candidates:
        picks = gallery.most_often({kind: times[kind] for kind in kinds}, _mean(losses, list(candidates), count))
    elif losses:
        picks = gallery.by_loss(_last(losses, count))
    elif tracker.dropped:
        picks = gallery.left_out(visits, seed)
    shown, thumbnails = gallery.shown(picks, pool, visits, losses)
    edges = common_edges([losses[epoch] for epoch in candidates if epoch in losses])
    return Pruned(
        fingerprint=pool.fingerprint,
        num_samples=count,
        epochs=epochs,
        visits_histogram=np.bincount(visits, minlength=epochs + 1).tolist(),
        classes=class_counts(pool.sample_classes, visits),
        loss_edges=edges.tolist(),
        preparations=preparations(candidates, losses, edges, count),
        cycles={kind: np.bincount(n, minlength=len(candidates) + 1).tolist() for kind, n in times.items()},
        gallery=shown,
        thumbnails=thumbnails,
        visits=visits.astype(np.min_scalar_type(epochs)) if count <= MOST_VISITS else None,
    )


def how_often(masks: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """bool [N] by kind of every preparation -> in how many of them a sample was a candidate, uint16 [N] by kind.

    ``any`` counts a preparation once if it made the sample a candidate of several kinds.
    """
    found: dict[str, np.ndarray] = {}
    for one in masks:
        either = np.logical_or.reduce(list(one.values()))
        for kind, mask in {**one, "any": either}.items():
            found.setdefault(kind, np.zeros(len(mask), dtype=np.uint16))
            found[kind] += mask
    return found


def common_edges(losses: Sequence[np.ndarray]) -> np.ndarray:
    """Edges of the bins for all of several epochs' losses, float [N] each: float64 [NUM_BINS + 1], or [0]."""
    ends = []
    for loss in losses:
        known = np.asarray(loss[np.isfinite(loss)], dtype=np.float32)
        if len(known):
            ends.append(np.quantile(known, [TAIL, 1 - TAIL]))
    if not ends:
        return np.zeros(0)
    low, high = float(np.min(ends)), float(np.max(ends))
    return np.linspace(low, high if high > low else low + 1, NUM_BINS + 1)


def histogram(loss: np.ndarray, edges: np.ndarray) -> list[int]:
    """float [n] -> samples between the edges; the first and the last bin take what lies beyond."""
    known = loss[np.isfinite(loss)].astype(np.float64)
    counts, _ = np.histogram(np.clip(known, edges[0], edges[-1]), bins=edges)
    return counts.tolist()


def preparations(
    candidates: Mapping[int, Bits], losses: Mapping[int, np.ndarray], edges: np.ndarray, count: int
) -> list[Preparation]:
    """What each epoch with candidates found, beside the one before it."""
    found: list[Preparation] = []
    before: dict[str, np.ndarray] = {}
    for epoch, bits in candidates.items():
        masks = {kind: unpack(rows, count) for kind, rows in bits.items()}
        histograms = {}
        if epoch in losses:
            loss = np.asarray(losses[epoch])
            histograms = {kind: histogram(loss[mask], edges) for kind, mask in masks.items()}
            histograms["all"] = histogram(loss, edges)
        jaccard = {kind: _jaccard(mask, before.get(kind)) for kind, mask in masks.items()}
        counts = {kind: int(np.count_nonzero(mask)) for kind, mask in masks.items()}
        found.append(Preparation(epoch, counts, histograms, jaccard))
        before = masks
    return found


def class_counts(classes: tuple[Sequence[str], np.ndarray] | None, visits: np.ndarray) -> list[ClassCount]:
    """Samples and visits of each class that has any; none where the pool knows no classes."""
    if classes is None:
        return []
    names, of = classes
    samples = np.bincount(of, minlength=len(names)).tolist()
    visited = np.bincount(of, weights=visits, minlength=len(names)).tolist()  # float64: exact up to 2 ** 53
    return [
        ClassCount(gallery.as_text(name), number, round(total))
        for name, number, total in zip(names, samples, visited, strict=True)
        if number
    ]


def _jaccard(mask: np.ndarray, before: np.ndarray | None) -> float | None:
    if before is None:
        return None
    either = np.count_nonzero(mask | before)
    return np.count_nonzero(mask & before) / either if either else None


def _mean(losses: Mapping[int, np.ndarray], epochs: Sequence[int], count: int) -> np.ndarray:
    """Mean of a sample's losses in some epochs: float32 [N], NaN where it has none."""
    total, number = np.zeros(count, dtype=np.float32), np.zeros(count, dtype=np.int32)
    for epoch in epochs:
        if epoch in losses:
            known = np.isfinite(losses[epoch])
            total[known] += losses[epoch][known]
            number += known
    return np.where(number > 0, total / np.maximum(number, 1), np.float32(np.nan))


def _last(losses: Mapping[int, np.ndarray], count: int) -> np.ndarray:
    """A sample's loss when it was last observed: float32 [N], NaN where it never was."""
    found = np.full(count, np.nan, dtype=np.float32)
    for loss in losses.values():
        known = np.isfinite(loss)
        found[known] = loss[known]
    return found
