"""Evaluation tasks: each takes an encoder and yields rows for the record. One file a task, found by its name.

``Task`` is the interface: a frozen dataclass whose fields are options. A task's ``protocol`` has a version
that changes with anything that changes its numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Protocol

import numpy as np
from PIL import Image

from benchmark import plugins
from benchmark.config import Choice, as_choice
from benchmark.options import build
from benchmark.pool import LabelledSet, PairSet, Source, data_set
from benchmark.record import Metric
from benchmark.tower import Tower


class Encoder(Protocol):
    """A frozen model in eval mode."""

    has_text: bool

    @property
    def logit_scale(self) -> float | None:
        """What the model multiplies cosines with before its softmax, 1 / temperature; None or absent for none."""

    def encode_images(self, images: Sequence[Image.Image], layer: str = "joint") -> np.ndarray:
        """float32 [n, d], not normalised.

        ``joint``: for CLIP the embedding that texts share, for MoCo the backbone's output. ``penultimate``: for
        CLIP what the last projection is given (a ModifiedResNet, whose attention pooling is that projection,
        gives the joint one, as arXiv 2103.00020, A.3, does); for MoCo the backbone's output again.
        """

    def trainable(self, layer: str = "joint") -> Tower:
        """A fresh copy of the image tower, on the model's device: images -> features of the layer."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, d], not normalised, in the images' space. Only where ``has_text``."""


class Task(ABC):
    """One evaluation. Subclasses are frozen dataclasses with at least the field ``dataset``."""

    needs_text: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ("train", "test")
    """What ``run`` opens: labelled splits, or ``pairs``; the last is the one whose items it measures."""

    dataset: Any

    @property
    @abstractmethod
    def protocol(self) -> str:
        """Name and version of exactly what is done, for example ``zero_shot.v1``; options that change a number
        show in it. A class attribute where no option does."""

    @classmethod
    def published(cls) -> list[Task]:
        """The task with its defaults, once for each of its recipes: for lists and tests."""
        return [cls(dataset="")]  # type: ignore[call-arg]

    @abstractmethod
    def run(self, encoder: Encoder) -> list[Metric]:
        """Evaluate. Raises PoolError if the data is absent."""

    def source(self) -> Source:
        """The task's data set; its options were checked when the sweep was planned."""
        return self._source

    @cached_property
    def _source(self) -> Source:
        source = data_set(as_choice(self.dataset, "dataset"), "dataset")
        # a split is opened once a task: the check for data, the run and the fingerprint share it
        for name in ("labelled", "pairs"):
            object.__setattr__(source, name, lru_cache(maxsize=None)(getattr(source, name)))
        return source

    def check_data(self) -> None:
        """Open all that ``run`` reads, without a model. Raises PoolError if the data is absent."""
        for name in self.reads:
            self._open(name)

    def items_fingerprint(self) -> str:
        """Of the set whose items are measured, "" if its content is not known. Raises PoolError."""
        return self._open(self.reads[-1]).fingerprint

    def _open(self, name: str) -> LabelledSet | PairSet:
        return self.source().pairs() if name == "pairs" else self.source().labelled(name)


def make_task(choice: Choice, where: str) -> Task:
    """Build a task and its source from name and options. Raises ConfigError that opens with ``where``."""
    cls = plugins.load("benchmark.evaluate", choice.name, Task, where)  # type: ignore[type-abstract]
    task = build(cls, choice.options, f"{where}.{choice.name}")
    data_set(as_choice(task.dataset, f"{where}.{choice.name}.dataset"), f"{where}.{choice.name}.dataset")
    return task


def fingerprint_of_encoder(encoder: Encoder) -> str:
    """A hash of the encoder's weights and preprocessing; "" for an encoder that does not tell."""
    tell = getattr(encoder, "fingerprint", None)
    return str(tell()) if callable(tell) else ""


def logit_scale_of(encoder: Encoder) -> float | None:
    """The encoder's ``logit_scale``; None for an encoder that does not tell."""
    scale: float | None = getattr(encoder, "logit_scale", None)
    return scale


def unit(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a row of zeros stays zero. float32 [n, d]."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(norms, 1e-12)).astype(np.float32, copy=False)
