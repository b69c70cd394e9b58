"""Held-out clean samples of a source as a pool, for methods that compare the training data with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from benchmark.config.run import as_choice
from benchmark.pool.samples import Pool, Sample
from benchmark.pool.source import data_set

MOST_SAMPLES = 1000
"""Of a larger set the first are read; a larger batch asks for as many as it holds."""


class HeldOutPool(Pool):
    """Some images of a sequence, opened when read, each with a caption."""

    def __init__(
        self, images: Sequence[Image.Image], chosen: Sequence[int], captions: Sequence[str], fingerprint: str
    ) -> None:
        self.images, self.chosen, self.captions, self.fingerprint = images, chosen, captions, fingerprint
        self.num_samples = len(chosen)

    def read(self, sample_id: int) -> Sample:
        return Sample(self.images[self.chosen[sample_id]].convert("RGB"), self.captions[sample_id])


def held_out_pool(node: object, where: str, *, with_text: bool, at_least: int) -> HeldOutPool:
    """The source's held-out pairs, an image with the first of its captions; without text the images of its
    labelled train split. At most ``MOST_SAMPLES`` of them, or ``at_least`` where that is more.

    ``node`` is the source's name, or its name with options. Raises ConfigError that opens with ``where`` for one
    that cannot be, and PoolError for data that is absent.
    """
    source = data_set(as_choice(node, where), where)
    count = max(MOST_SAMPLES, at_least)
    if not with_text:
        split = source.train_set()
        total = min(count, len(split.images))
        return HeldOutPool(split.images, range(total), [""] * total, split.fingerprint)
    pairs = source.pairs()
    images, first = np.unique(pairs.image_of_caption, return_index=True)
    captions = [pairs.captions[i] for i in first[:count]]
    return HeldOutPool(pairs.images, images[:count].tolist(), captions, pairs.fingerprint)
