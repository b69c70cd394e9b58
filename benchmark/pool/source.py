"""A source makes a pool and the held-out sets.

``Source`` is the interface of a file in ``benchmark/pool/sources/``.
"""

from __future__ import annotations

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from benchmark import plugins
from benchmark.config.run import Choice, resolved
from benchmark.options import ConfigError, build
from benchmark.pool.plant import Plant, PlantedPool
from benchmark.pool.samples import Pool, PoolError, Some, digest_of, fingerprint_of

SPLITS = ("train", "test")
AnySet = TypeVar("AnySet", bound="LabelledSet")


@dataclass(frozen=True)
class LabelledSet:
    """A split for classification, k-NN and probes."""

    name: str
    split: str
    images: Sequence[Image.Image]
    labels: np.ndarray
    """int64 [n], indices into ``class_names``; where an image may have several, int64 [n, C] of 0 and 1."""
    class_names: list[str]
    templates: list[Callable[[str], str]]
    """Prompt templates for zero-shot classification: class name -> prompt."""
    class_ids: Sequence[str] = ()
    """What tells classes of one name apart, such as WordNet's ids, by label; () where names do."""
    metrics: Sequence[str] = ()
    """What the set is judged by beside accuracy: ``f1_macro``, ``top1_worst_GROUP``, ``top5_worst_GROUP``."""
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    """GROUP -> which one of its kind an image belongs to, int64 [n]."""

    @cached_property
    def fingerprint(self) -> str:
        """A hash of images, labels and names of classes; "" where that of the images is not known."""
        content = fingerprint_of(self.images)
        return content and digest_of([content, self.labels.astype("<i8").tobytes(), *self.class_names])

    def only(self: AnySet, is_kept: np.ndarray) -> AnySet:
        """The images to keep, bool [n], with their labels."""
        if is_kept.all():
            return self
        images = Some(self.images, np.flatnonzero(is_kept))
        groups = {kind: of[is_kept] for kind, of in self.groups.items()}
        return dataclasses.replace(self, images=images, labels=self.labels[is_kept], groups=groups)

    def check_measurable(self) -> None:
        """Raise PoolError for a split that every model would score 100 % on, or none."""
        if self.labels.ndim == 1 and len(self.class_names) < 2:
            raise PoolError(f"{self.name}: one class alone: every model would score 100 %")
        if not len(self.labels):
            raise PoolError(f"{self.name}: its {self.split} split holds no images")
        if self.labels.ndim == 1 and self.split == "train" and len(np.unique(self.labels)) < 2:
            raise PoolError(f"{self.name}: all training images are of one class: every model would learn the same")


@dataclass(frozen=True)
class TrainSet(LabelledSet):
    """A split that a probe may be fitted on; no ``TestSet`` is one."""


@dataclass(frozen=True)
class TestSet(LabelledSet):
    """A split that is measured on, never fitted on; no ``TrainSet`` is one."""

    __test__ = False  # pytest: a data set, not a class of tests


@dataclass(frozen=True)
class PairSet:
    """Held-out images and captions for retrieval; an image may have several captions, a caption several images."""

    name: str
    images: Sequence[Image.Image]
    captions: list[str]
    image_of_caption: np.ndarray
    """int64 [m]: the index of the image that caption i describes; of a group of images, of any one."""
    image_group: np.ndarray | None = None
    """int64 [n]: images of one group show the same thing and share their captions; None: each is on its own."""

    @property
    def groups(self) -> tuple[np.ndarray, np.ndarray]:
        """The groups of the images, int64 [n], and of the captions, int64 [m]."""
        of_image = np.arange(len(self.images)) if self.image_group is None else self.image_group
        return of_image, of_image[self.image_of_caption]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of images, captions and which belong together; "" where that of the images is not known."""
        content = fingerprint_of(self.images)
        parts: list[str | bytes] = [content, self.image_of_caption.astype("<i8").tobytes(), *self.captions]
        if self.image_group is not None:
            parts += ["image_group", self.image_group.astype("<i8").tobytes()]
        return content and digest_of(parts)

    def check_measurable(self) -> None:
        """Raise PoolError for pairs that every model would score 100 % on, or none."""
        of_image, of_text = self.groups
        if len(np.unique(of_text)) < 2 or len(np.unique(of_image)) < 2:
            raise PoolError(f"{self.name}: captions of fewer than two images: every model would score 100 %")


class Source(ABC):
    """Where data comes from. A subclass is a frozen dataclass in ``benchmark/pool/sources/<name>.py``."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Name of the pool in run names and tables; differs where the samples differ."""

    @abstractmethod
    def expected_samples(self) -> int | None:
        """Size of the training pool, known without reading it; None if only the data can tell."""

    @abstractmethod
    def training_pool(self) -> Pool:
        """Open the pool. Raises PoolError if the data is absent, saying how to get it."""

    def check_pool(self) -> None:
        """Raise PoolError as ``training_pool`` does if the data is absent; what takes long is left out."""
        self.training_pool()

    @property
    def has_truth(self) -> bool:
        """Whether the pool will have planted samples (``Pool.truth``), known without reading it."""
        return False

    def licence(self) -> str:
        """What the data says of its licence; "" where it says nothing. Raises PoolError if that data is absent."""
        return ""

    def labelled(self, split: str) -> LabelledSet:
        """The ``train`` or ``test`` split with labels; the two share no image. Raises PoolError if it has none."""
        raise PoolError(f"{self.label} has no labelled {split} split")

    def train_set(self) -> TrainSet:
        """``labelled("train")`` as the type that can be fitted on."""
        return TrainSet(**_fields(self.labelled("train"), "train"))

    def test_set(self) -> TestSet:
        """``labelled("test")`` as the type that cannot be fitted on."""
        return TestSet(**_fields(self.labelled("test"), "test"))

    def pairs(self) -> PairSet:
        """Held-out image-caption pairs. Raises PoolError if it has none."""
        raise PoolError(f"{self.label} has no held-out pairs")


def _fields(found: LabelledSet, split: str) -> dict[str, Any]:
    assert found.split == split, f"{found.name}: asked for the {split} split, got {found.split}"
    if found.labels.ndim > 1:
        raise PoolError(f"{found.name}: an image may have several classes, which zero_shot alone measures")
    return {f.name: getattr(found, f.name) for f in dataclasses.fields(LabelledSet)}


@dataclass(frozen=True, kw_only=True)
class PlantedSource(Source):
    """A source whose training pool gets faults planted. It has no held-out sets: evaluate on the source itself."""

    source: Source
    plant: Plant

    @property
    def label(self) -> str:
        told = {"swap": self.plant.swapped_captions, "dup": self.plant.near_duplicates, "seed": self.plant.seed}
        return "-".join([self.source.label, *(f"{name}{value:g}" for name, value in told.items() if value)])

    def expected_samples(self) -> int | None:
        return self.source.expected_samples()

    def training_pool(self) -> Pool:
        return PlantedPool(self.source.training_pool(), self.plant)

    def check_pool(self) -> None:
        self.source.check_pool()

    def licence(self) -> str:
        return self.source.licence()

    @property
    def has_truth(self) -> bool:
        return True


def make_source(choice: Choice, where: str) -> Source:
    """Build a source from its name and options; reads no data. Raises ConfigError that opens with ``where``.

    Every source takes ``plant`` beside its own options.
    """
    where = f"{where}.{choice.name}"
    cls = plugins.load("benchmark.pool.sources", choice.name, Source, where.rpartition(".")[0])  # type: ignore[type-abstract]
    own = {key: value for key, value in choice.options.items() if key != "plant"}
    source = build(cls, own, where)
    plant = choice.options.get("plant")
    if plant is None:
        return source
    if source.has_truth:
        raise ConfigError(f"{where}.plant: {choice.name} plants faults of its own: use its options")
    return PlantedSource(source=source, plant=build(Plant, plant, f"{where}.plant"))


def data_set(choice: Choice, where: str) -> Source:
    """As ``make_source``, of data that is evaluated on or aimed at: nothing can be planted there."""
    if choice.options.get("plant") is not None:
        raise ConfigError(f"{where}.{choice.name}.plant: faults are planted in training pools alone")
    return make_source(choice, where)


def choice_of(name: str, source: Source) -> Choice:
    """The source as ``make_source`` takes it, with every option written out."""
    if isinstance(source, PlantedSource):
        return Choice(name=name, options={**resolved(name, source.source).options, "plant": asdict(source.plant)})
    return resolved(name, source)


def draft_label(name: str, decode_size: int | None) -> str:
    """A pool's label, which tells a ``decode_size``: other pixels are other samples."""
    return name if decode_size is None else f"{name}-draft{decode_size}"


def data_folder(root: str, name: str) -> Path:
    """``root`` if given, else ``$SCAN_BENCH_DATA/<name>`` (``data/<name>`` when that is not set)."""
    return Path(root) if root else Path(os.environ.get("SCAN_BENCH_DATA", "data")) / name
