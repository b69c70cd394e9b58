"""A pool is N samples with dense int64 ids 0..N-1; a source makes the pool and the held-out sets.

``Source`` is the interface of a file in ``benchmark/sources/``. Methods see a ``PoolView``: sizes and the
features they ask for, never the planted truth.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmark import plugins
from benchmark.config import Choice
from benchmark.options import build

SPLITS = ("train", "test")

SAMPLE_FAULTS = {
    "image_missing": "a caption without an image next to it in the shard",
    "image_empty": "an image of 0 bytes",
    "image_undecodable": "bytes that are no JPEG, PNG, WebP, GIF or BMP, or a damaged one",
    "image_too_large": "more pixels than PIL.Image.MAX_IMAGE_PIXELS, or a file of 4 GiB and more",
    "caption_missing": "an image without a caption next to it in the shard, or JSON without a text 'caption'",
    "caption_empty": "a caption of 0 bytes or of white space alone",
    "caption_not_utf8": "a caption that is not valid UTF-8",
    "caption_not_json": "a .json entry that is not a JSON object",
    "caption_too_long": "a caption of more than 64 KiB, or a .json entry of more than 1 MiB",
    "member_repeated": "two images or two entries of one name in one sample: no telling which belong together",
}
"""Why a sample is skipped or cannot be read: reason -> what it means."""


class PoolError(ValueError):
    """A pool whose data is absent, damaged or not what was asked; the message says what to do."""


class SampleError(PoolError):
    """One sample that cannot be used while its pool can; ``reason`` is one of ``SAMPLE_FAULTS``."""

    def __init__(self, reason: str, message: str) -> None:
        assert reason in SAMPLE_FAULTS, reason
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[SampleError], tuple[str, str]]:
        return type(self), (self.reason, str(self))


@dataclass(frozen=True)
class Sample:
    """One decoded sample: an RGB image and its caption ("" in a pool of images alone)."""

    image: Image.Image
    caption: str


@dataclass(frozen=True)
class PoolView:
    """What a pruning method may know of a pool."""

    num_samples: int
    fingerprint: str
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays of N rows by name, such as ``image_embedding``: float [N, d]."""


class Pool(ABC):
    """Samples that can be read by id from any process."""

    num_samples: int
    fingerprint: str
    """A hash of the content: two pools with one fingerprint hold the same samples under the same ids."""

    @abstractmethod
    def read(self, sample_id: int) -> Sample:
        """Read and decode one sample. Raises PoolError naming the sample."""

    @property
    def features(self) -> Mapping[str, np.ndarray]:
        """Arrays of N rows that methods may ask for by name."""
        return {}

    @property
    def truth(self) -> Mapping[str, np.ndarray]:
        """Planted flags by name, bool [N], or groups of near-duplicates, integers [N], negative in none: of each
        group all but one are redundant. For the report alone."""
        return {}

    @property
    def sample_classes(self) -> tuple[Sequence[str], np.ndarray] | None:
        """Names of classes, and an index into them for every sample, int64 [N]; None where the pool knows none.
        For the report alone: methods never see it."""
        return None

    @property
    def shard_starts(self) -> np.ndarray | None:
        """First id of every shard, then N: int64 [num_shards + 1]; None where any order reads equally fast."""
        return None

    @property
    def skipped(self) -> Mapping[str, int]:
        """Entries of the data that never became samples, counted by reason (``SAMPLE_FAULTS``)."""
        return {}

    def key(self, sample_id: int) -> str:
        """The sample's name outside this suite."""
        return str(sample_id)

    def source_of(self, sample_id: int) -> str:
        """The data set a sample comes from, where a pool mixes several."""
        return ""

    def view(self, needs: Sequence[str] = (), computed: Mapping[str, np.ndarray] | None = None) -> PoolView:
        """The part a method may see, with ``computed`` features. Raises PoolError for one that does not exist."""
        known = {**self.features, **(computed or {})}
        missing = [name for name in needs if name not in known]
        if missing:
            raise PoolError(f"the method needs {', '.join(missing)}, which this pool does not have")
        return PoolView(self.num_samples, self.fingerprint, {name: known[name] for name in needs})


def fingerprint_of(images: Sequence[Image.Image]) -> str:
    """A hash of the images' content and order; "" where it cannot be told without decoding what lies on disk.

    A sequence that knows what it holds says so in its ``fingerprint``; a list in memory is hashed by its pixels.
    """
    known = getattr(images, "fingerprint", None)
    if known is not None:
        return str(known)
    if not isinstance(images, list | tuple):
        return ""
    return digest_of(part for image in images for part in (f"{image.mode} {image.size}", image.tobytes()))


def digest_of(parts: Iterable[str | bytes]) -> str:
    """Sixteen hexadecimal digits over the parts; where one ends and the next begins counts."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:16]


@dataclass(frozen=True)
class LabelledSet:
    """A split for classification, k-NN and probes."""

    name: str
    split: str
    images: Sequence[Image.Image]
    labels: np.ndarray
    """int64 [n], indices into ``class_names``."""
    class_names: list[str]
    templates: list[Callable[[str], str]]
    """Prompt templates for zero-shot classification: class name -> prompt."""

    @cached_property
    def fingerprint(self) -> str:
        """A hash of images, labels and names of classes; "" where that of the images is not known."""
        content = fingerprint_of(self.images)
        return content and digest_of([content, self.labels.astype("<i8").tobytes(), *self.class_names])


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


class Source(ABC):
    """Where data comes from. A subclass is a frozen dataclass in ``benchmark/sources/<name>.py``."""

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
    return {f.name: getattr(found, f.name) for f in dataclasses.fields(LabelledSet)}


def make_source(choice: Choice, where: str) -> Source:
    """Build a source from its name and options; reads no data. Raises ConfigError that opens with ``where``."""
    cls = plugins.load("benchmark.sources", choice.name, Source, where)  # type: ignore[type-abstract]
    return build(cls, choice.options, f"{where}.{choice.name}")


def data_folder(root: str, name: str) -> Path:
    """``root`` if given, else ``$SCAN_BENCH_DATA/<name>`` (``data/<name>`` when that is not set)."""
    return Path(root) if root else Path(os.environ.get("SCAN_BENCH_DATA", "data")) / name


if __name__ == "__main__":
    # by name: the command stands above this file, and this file is also ``benchmark.pool`` to all the others
    sys.exit(importlib.import_module("benchmark.poolcli").main())
