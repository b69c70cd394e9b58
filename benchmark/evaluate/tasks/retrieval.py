"""Image-text retrieval: recalls and mean reciprocal rank by cosine, and the InfoNCE of held-out pairs.

An image may have any number of captions, and images may share theirs (``PairSet.image_group``). An image without a
caption is a candidate but no query.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.evaluate.infonce import infonce
from benchmark.evaluate.intervals import mean, proportion
from benchmark.evaluate.ranks import ranks
from benchmark.evaluate.scores import image_features, text_features
from benchmark.evaluate.task import Task, logit_scale_of
from benchmark.models.encoder import Encoder
from benchmark.runs.record import Metric

KS = (1, 5, 10)


@dataclass(frozen=True, kw_only=True)
class Retrieval(Task):
    """``_r1``, ``_r5``, ``_r10``, ``_mrr`` and ``_infonce`` of ``image_to_text`` and of ``text_to_image``.

    ``_rK``: the share of queries with at least one positive among the K nearest; left out for a K of at least the
    number of candidates, where every model would score 1. ``_mrr``: the mean of 1 / rank of the best positive,
    ranks from 1. ``_infonce``: nats a query, less is better, at the model's own temperature; left out for a model
    that has none. The intervals take queries as independent, which several captions of one image are not quite.
    """

    needs_text = True
    reads = ("pairs",)
    protocol = "retrieval.cosine_any_positive.v1"
    """Of recalls and mean reciprocal rank."""
    infonce_protocol = "retrieval.infonce_own_temperature.v1"

    dataset: Any
    """Name of a source with held-out pairs, or ``{name: options}``."""

    def run(self, encoder: Encoder) -> list[Metric]:
        pairs = self.source().pairs()
        where = f"retrieval on {pairs.name}"
        is_readable, images = image_features(encoder, pairs.images, where)
        asks = is_readable[pairs.image_of_caption]  # a caption goes with its image
        texts = text_features(encoder, [pairs.captions[i] for i in np.flatnonzero(asks)], where)
        of_image, of_text = (group[kept] for group, kept in zip(pairs.groups, (is_readable, asks), strict=True))
        asked = np.isin(of_image, of_text)
        directions = {
            "image_to_text": (images[asked], texts, of_image[asked], of_text),
            "text_to_image": (texts, images, of_text, of_image),
        }
        places = {name: ranks(*sides) for name, sides in directions.items()}
        found = [
            proportion("retrieval", pairs.name, f"{name}_r{k}", place < k, self.protocol)
            for name, place in places.items()
            for k in KS
            if k < len(directions[name][1])
        ]
        for name, place in places.items():
            row = ("retrieval", pairs.name, f"{name}_mrr")
            found.append(mean(*row, 1 / (place + 1), self.protocol, items=place, most=1.0))
        scale = logit_scale_of(encoder)
        if scale is None:
            return found
        for name, sides in directions.items():
            row, loss = ("retrieval", pairs.name, f"{name}_infonce"), infonce(*sides, scale)
            found.append(mean(*row, loss, self.infonce_protocol, items=loss, most=math.inf))
        return found
