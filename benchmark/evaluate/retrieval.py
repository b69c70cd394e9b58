"""Image-text retrieval: the share of queries with at least one positive among the k nearest by cosine.

An image may have any number of captions. An image without a caption is a candidate but no query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.evaluate import Encoder, Task
from benchmark.evaluate._intervals import proportion
from benchmark.evaluate._scores import image_features, ranks, text_features
from benchmark.record import Metric

KS = (1, 5, 10)


@dataclass(frozen=True, kw_only=True)
class Retrieval(Task):
    """``image_to_text_r1``, ``_r5``, ``_r10`` and ``text_to_image_r1``, ``_r5``, ``_r10``.

    Both are left out for a k of at least the number of candidates, where every model would score 1. The
    intervals take queries as independent, which several captions of one image are not quite.
    """

    needs_text = True
    reads = ("pairs",)
    protocol = "retrieval.cosine_any_positive.v1"

    dataset: Any
    """Name of a source with held-out pairs, or ``{name: options}``."""

    def run(self, encoder: Encoder) -> list[Metric]:
        pairs = self.source().pairs()
        where = f"retrieval on {pairs.name}"
        images = image_features(encoder, pairs.images, where)
        texts = text_features(encoder, pairs.captions, where)
        image_of_text = pairs.image_of_caption
        captioned = np.unique(image_of_text)
        places = {
            "image_to_text": (ranks(images[captioned], texts, captioned, image_of_text), len(texts)),
            "text_to_image": (ranks(texts, images, image_of_text, np.arange(len(images))), len(images)),
        }
        return [
            proportion("retrieval", pairs.name, f"{direction}_r{k}", place < k, self.protocol)
            for direction, (place, num_candidates) in places.items()
            for k in KS
            if k < num_candidates
        ]
