"""A pool is N samples with dense int64 ids 0..N-1; a source makes the pool and the held-out sets.

``Source`` is the interface of a file in ``benchmark/sources/``. Methods see a ``PoolView``: sizes and the
features they ask for, never the planted truth.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from benchmark import plugins
from benchmark.config import Choice, resolved
from benchmark.options import ConfigError, build, require
from benchmark.seeds import generator, seed_of

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
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)
    """``Pool.truth``, for a control that says it ``uses_truth``; empty for every method."""


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

    def caption(self, sample_id: int) -> str:
        """The caption alone. Raises PoolError naming the sample."""
        return self.read(sample_id).caption

    def key(self, sample_id: int) -> str:
        """The sample's name outside this suite."""
        return str(sample_id)

    def source_of(self, sample_id: int) -> str:
        """The data set a sample comes from, where a pool mixes several."""
        return ""

    def view(
        self,
        needs: Sequence[str] = (),
        computed: Mapping[str, np.ndarray] | None = None,
        with_truth: bool = False,
    ) -> PoolView:
        """The part a method may see, with ``computed`` features. Raises PoolError for one that does not exist."""
        known = {**self.features, **(computed or {})}
        missing = [name for name in needs if name not in known]
        if missing:
            raise PoolError(f"the method needs {', '.join(missing)}, which this pool does not have")
        features = {name: known[name] for name in needs}
        return PoolView(self.num_samples, self.fingerprint, features, self.truth if with_truth else {})


@dataclass(frozen=True, kw_only=True)
class Plant:
    """Faults put into a pool on purpose, each a share of its samples; no sample has both.

    The size of the pool and the order of its samples stay.
    """

    swapped_captions: float = 0.0
    """Samples with the caption of another one of them, in other words than their own."""
    near_duplicates: float = 0.0
    """Samples that are a slightly changed copy of another one, with its caption: what was there is gone."""
    seed: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.swapped_captions <= 1, "swapped_captions", "in [0, 1]", self.swapped_captions)
        require(0 <= self.near_duplicates < 1, "near_duplicates", "in [0, 1)", self.near_duplicates)
        total = self.swapped_captions + self.near_duplicates
        require(0 < total <= 1 + 1e-9, "swapped_captions + near_duplicates", "above 0 and at most 1", total)
        require(self.seed >= 0, "seed", "at least 0", self.seed)


def draw_faults(
    seed: int, purpose: str, num_samples: int, near_duplicates: float, swapped: float
) -> tuple[np.ndarray, np.ndarray]:
    """The id each copy is made from, -1 for samples that are none, int64 [N]; and the ids with another's caption,
    int64 [m], in random order.

    Copies are made from samples without a fault; from those with another's caption only where no other is left.
    """
    # raw output of the bit generator: NumPy keeps it the same in all versions, unlike permutation()
    raw = generator(seed, purpose).bit_generator.random_raw(2 * num_samples)
    order = np.argsort(raw[:num_samples], kind="stable")
    num_copies = min(round(near_duplicates * num_samples), num_samples - 1)
    num_swapped = min(round(swapped * num_samples), num_samples - num_copies) if num_samples > 1 else 0
    copies, ill = order[:num_copies], order[num_copies : num_copies + num_swapped]
    originals = order[num_copies + num_swapped :]
    if not len(originals):
        originals = ill
    chosen = raw[num_samples : num_samples + num_copies] % np.uint64(len(originals))
    original_of = np.full(num_samples, -1, dtype=np.int64)
    original_of[copies] = originals[chosen.astype(np.int64)]
    return original_of, ill


def truth_of(original_of: np.ndarray, is_ill_matched: np.ndarray) -> dict[str, np.ndarray]:
    """A pool's ``truth``: ``near_duplicate`` flags the copies, not their originals; ``ill_matched`` the captions.

    A method cannot tell a copy from its original, and need not: ``redundant_copy`` groups both, and counts
    whichever of them is left out, but never the last one.
    """
    group = original_of.copy()
    group[group[group >= 0]] = group[group >= 0]  # an original is in the group of its copies
    return {"near_duplicate": original_of >= 0, "redundant_copy": group, "ill_matched": is_ill_matched}


class PlantedPool(Pool):
    """A pool with faults planted as its samples are read; it pickles as the pool it stands on."""

    def __init__(self, pool: Pool, plant: Plant) -> None:
        """Raises PoolError for a pool that is too small to plant anything in."""
        self.pool, self.plant = pool, plant
        self.num_samples = pool.num_samples
        self.fingerprint = digest_of([pool.fingerprint, json.dumps({"version": 1, **asdict(plant)})])
        self.original_of, self.swapped = draw_faults(
            plant.seed, "plant", pool.num_samples, plant.near_duplicates, plant.swapped_captions
        )
        if plant.swapped_captions and len(self.swapped) < 2:
            raise PoolError(f"plant.swapped_captions: {len(self.swapped)} captions cannot be swapped: plant more")
        self._place = np.full(self.num_samples, -1, dtype=np.int64)  # among the swapped
        self._place[self.swapped] = np.arange(len(self.swapped))

    def __reduce__(self) -> tuple[object, ...]:
        return PlantedPool, (self.pool, self.plant)

    @property
    def truth(self) -> Mapping[str, np.ndarray]:
        return truth_of(self.original_of, self._place >= 0)

    @property
    def sample_classes(self) -> tuple[Sequence[str], np.ndarray] | None:
        """What the images show: a copy has its original's class."""
        known = self.pool.sample_classes
        return known and (known[0], known[1][self._shown(np.arange(self.num_samples))])

    @property
    def shard_starts(self) -> np.ndarray | None:
        return self.pool.shard_starts

    @property
    def skipped(self) -> Mapping[str, int]:
        return self.pool.skipped

    def key(self, sample_id: int) -> str:
        shown = int(self._shown(sample_id))
        return self.pool.key(shown) + ("" if shown == sample_id else f"+copy{sample_id}")

    def source_of(self, sample_id: int) -> str:
        return self.pool.source_of(int(self._shown(sample_id)))

    def read(self, sample_id: int) -> Sample:
        if not 0 <= sample_id < self.num_samples:
            raise PoolError(f"the pool has samples 0 to {self.num_samples - 1}, not {sample_id}")
        sample = self.pool.read(int(self._shown(sample_id)))
        if self.original_of[sample_id] >= 0:
            rng = Random(seed_of(self.plant.seed, "plant copy", sample_id))
            return Sample(slightly_changed(sample.image, rng), sample.caption)
        if self._place[sample_id] >= 0:
            return Sample(sample.image, self._foreign_caption(sample_id, sample.caption))
        return sample

    def _shown(self, sample_id: int | np.ndarray) -> np.ndarray:
        """The samples of the pool below whose images are seen."""
        original = self.original_of[sample_id]
        return np.where(original >= 0, original, sample_id)

    def _foreign_caption(self, sample_id: int, own: str) -> str:
        """That of the next swapped sample which has another: nearly every caption stays in the pool, elsewhere."""
        place, count = int(self._place[sample_id]), len(self.swapped)
        for step in range(1, count):
            try:
                text = self.pool.caption(int(self.swapped[(place + step) % count]))
            except SampleError:
                continue
            if text != own:
                return text
        raise PoolError(
            f"plant.swapped_captions: {self.key(sample_id)}: no other sample of the {count} has another caption"
            f" than {own!r}: is this a pool of images alone?"
        )


def slightly_changed(image: Image.Image, rng: Random) -> Image.Image:
    """The same picture to the eye: at least 90 % of each side, at the same size, up to 10 % lighter or darker."""
    kept = [max(1, round(side * rng.uniform(0.90, 0.98))) for side in image.size]
    left, top = (round(rng.random() * (side - part)) for side, part in zip(image.size, kept, strict=True))
    box = (left, top, left + kept[0], top + kept[1])
    resized = image.resize(image.size, Image.Resampling.BILINEAR, box)
    return ImageEnhance.Brightness(resized).enhance(rng.uniform(0.9, 1.1))


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

    @property
    def has_truth(self) -> bool:
        """Whether the pool will have planted samples (``Pool.truth``), known without reading it."""
        return False

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

    @property
    def has_truth(self) -> bool:
        return True


def make_source(choice: Choice, where: str) -> Source:
    """Build a source from its name and options; reads no data. Raises ConfigError that opens with ``where``.

    Every source takes ``plant`` beside its own options.
    """
    where = f"{where}.{choice.name}"
    cls = plugins.load("benchmark.sources", choice.name, Source, where.rpartition(".")[0])  # type: ignore[type-abstract]
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


def data_folder(root: str, name: str) -> Path:
    """``root`` if given, else ``$SCAN_BENCH_DATA/<name>`` (``data/<name>`` when that is not set)."""
    return Path(root) if root else Path(os.environ.get("SCAN_BENCH_DATA", "data")) / name


if __name__ == "__main__":
    # by name: the command stands above this file, and this file is also ``benchmark.pool`` to all the others
    sys.exit(importlib.import_module("benchmark.poolcli").main())
