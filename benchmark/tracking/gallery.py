"""Which samples the report shows of a run, and how: ids picked from losses, candidates and visits; thumbnails.

N below is the number of samples of the pool.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from benchmark.pool.samples import Pool, PoolError
from benchmark.runs.pruned import MOST_CAPTION, THUMBNAIL, Shown
from benchmark.seeds import generator

PER_KIND = 12
MOST_KINDS = 2
SPARE = 3
"""Times as many ids are picked, for samples that cannot be read."""

Picks = dict[str, np.ndarray]
"""Ids by kind, the most telling first: int64 [<= SPARE * PER_KIND]."""


def most_often(times: Mapping[str, np.ndarray], loss: np.ndarray) -> Picks:
    """The samples that were candidates most often; of those, the ones with the most extreme mean loss.

    ``times`` by kind, integers [N]; ``loss`` float [N], NaN where none. Extreme is low for a kind whose candidates
    have lower losses than the others on average, high for one whose candidates have higher losses.
    """
    found = {}
    for kind, count in list(times.items())[:MOST_KINDS]:
        ids = np.flatnonzero(count)
        others = loss[count == 0]
        is_low = bool(np.nanmean(loss[ids]) <= np.nanmean(others)) if len(ids) and len(others) else True
        order = np.lexsort((loss[ids] if is_low else -loss[ids], -count[ids].astype(np.int64)))
        found[kind] = ids[order[: SPARE * PER_KIND]]
    return found


def by_loss(loss: np.ndarray) -> Picks:
    """Both ends of a loss, float [N], NaN where a sample has none."""
    known = np.flatnonzero(np.isfinite(loss))
    order = known[np.argsort(loss[known], kind="stable")]
    most = min(SPARE * PER_KIND, len(order) // 2)
    return {"lowest_loss": order[:most], "highest_loss": order[::-1][:most]}


def left_out(visits: np.ndarray, seed: int) -> Picks:
    """Of the samples with the fewest visits, integers [N], some at random."""
    fewest = np.flatnonzero(visits == visits.min())
    count = min(SPARE * PER_KIND, len(fewest))
    return {"left_out": generator(seed, "gallery").choice(fewest, size=count, replace=False)}


def shown(
    picks: Picks, pool: Pool, visits: np.ndarray, losses: Mapping[int, np.ndarray]
) -> tuple[list[Shown], np.ndarray]:
    """The picked samples and their thumbnails, uint8 [n, side, side, 3]; what cannot be read is passed over.

    ``visits`` integers [N]; ``losses`` by epoch, float [N].
    """
    found: list[Shown] = []
    images: list[Image.Image] = []
    classes = pool.sample_classes
    for kind, ids in picks.items():
        before = len(found)
        for sample_id in ids.tolist():
            try:
                sample = pool.read(sample_id)
            except PoolError:
                continue
            history = [(epoch, round(float(loss[sample_id]), 4)) for epoch, loss in losses.items()]
            name = None if classes is None else as_text(classes[0][classes[1][sample_id]])
            found.append(
                Shown(
                    kind=kind,
                    id=sample_id,
                    key=as_text(pool.key(sample_id)),
                    caption=as_text(sample.caption),
                    class_name=name,
                    visits=int(visits[sample_id]),
                    losses=[(epoch, loss) for epoch, loss in history if math.isfinite(loss)],
                )
            )
            images.append(_small(sample.image))
            if len(found) - before == PER_KIND:
                break
    return found, _stacked(images)


def as_text(text: str) -> str:
    """At most ``MOST_CAPTION`` letters that every encoding of Unicode can hold."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MOST_CAPTION else text[: MOST_CAPTION - 1] + "…"


def _small(image: Image.Image) -> Image.Image:
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))  # never enlarges
    return small


def _stacked(images: Sequence[Image.Image]) -> np.ndarray:
    """Each in the middle of a white square of the largest side."""
    side = max(_sides(images), default=1)
    found = np.full((len(images), side, side, 3), 255, dtype=np.uint8)
    for square, image in zip(found, images, strict=True):
        left, top = (side - image.width) // 2, (side - image.height) // 2
        square[top : top + image.height, left : left + image.width] = np.asarray(image)
    return found


def _sides(images: Iterable[Image.Image]) -> list[int]:
    return [side for image in images for side in image.size]
