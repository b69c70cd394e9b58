"""Zero-shot classification with an ensemble of prompts, as OpenAI's CLIP and open_clip do it.

Each prompt of a class is encoded and scaled to length 1; their mean, scaled again, is the class's vector; an
image belongs to the class of the largest cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.evaluate.intervals import mean_per_class, proportion
from benchmark.evaluate.judged import judged, mean_average_precision
from benchmark.evaluate.ranks import ranks
from benchmark.evaluate.scores import DECIMALS, image_features, text_features, unit
from benchmark.evaluate.task import Task
from benchmark.models.encoder import Encoder
from benchmark.runs.record import Metric

CLASSES_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class ZeroShot(Task):
    """``top1``, ``mean_per_class`` and, with more than five classes, ``top5``; and what else its set is judged by.

    Where an image may have several classes: ``mean_average_precision`` alone.
    """

    needs_text = True
    reads = ("test",)
    protocol = "zero_shot.prompt_ensemble.v1"

    dataset: Any
    """Name of a source with a labelled test split, or ``{name: options}``."""

    def run(self, encoder: Encoder) -> list[Metric]:
        test = self.source().labelled("test")
        where = f"zero_shot on {test.name}"
        weights = class_weights(encoder, test.class_names, test.templates, where)
        is_readable, images = image_features(encoder, test.images, where)
        test = test.only(is_readable)
        if test.labels.ndim > 1:
            scores = cosines(images, weights)
            return [mean_average_precision("zero_shot", test.name, scores, test.labels, self.protocol)]
        place = ranks(images, weights, test.labels, np.arange(len(weights)))
        found = [
            proportion("zero_shot", test.name, "top1", place < 1, self.protocol),
            mean_per_class("zero_shot", test.name, place < 1, test.labels, self.protocol),
        ]
        if len(weights) > 5:
            found.append(proportion("zero_shot", test.name, "top5", place < 5, self.protocol))
        if test.metrics:
            first = cosines(images, weights).argmax(axis=1)
            told = (place, first, test.labels, test.groups, self.protocol)
            found += [judged("zero_shot", test.name, metric, *told) for metric in test.metrics]
        return found


def cosines(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rounded as those that ``ranks`` compares: float32 [n, C]."""
    return np.round(unit(images) @ unit(weights).T, DECIMALS)


def class_weights(
    encoder: Encoder, class_names: Sequence[str], templates: Sequence[Callable[[str], str]], where: str
) -> np.ndarray:
    """The vectors of the classes, of length 1: float32 [C, d]."""
    weights = []
    for start in range(0, len(class_names), CLASSES_AT_ONCE):
        names = class_names[start : start + CLASSES_AT_ONCE]
        texts = [template(name) for name in names for template in templates]
        features = unit(text_features(encoder, texts, where))
        weights.append(unit(features.reshape(len(names), len(templates), -1).mean(axis=1)))
    return np.concatenate(weights)
