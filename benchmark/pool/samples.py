"""A pool is N samples with dense int64 ids 0..N-1; methods see a ``PoolView`` of it, never the planted truth."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from PIL import Image

SAMPLE_FAULTS = {
    "image_missing": "a caption without an image next to it in the shard, or without the file that it names",
    "image_empty": "an image of 0 bytes",
    "image_undecodable": "bytes that are no JPEG, PNG, WebP, GIF or BMP, or a damaged one",
    "image_too_large": "more pixels than PIL.Image.MAX_IMAGE_PIXELS, or a file of more than 1 GiB",
    "caption_missing": "an image without a caption next to it in the shard, or JSON without the caption's field",
    "caption_empty": "a caption of 0 bytes or of white space alone",
    "caption_not_utf8": "a caption that is not valid UTF-8",
    "caption_not_json": "a .json entry that is not a JSON object",
    "caption_too_long": "a caption of more than 64 KiB, or a .json entry of more than 1 MiB",
    "key_missing": "a sample without the field or column that is to name it",
    "name_dotted": "an image with a dot in its name before the suffix, where webdataset cuts names: rename it",
    "row_malformed": "a line of a table with more or fewer fields than its heading, or that is no JSON object",
    "shard_damaged": "a shard that ends before its last sample, or is no shard: samples of it are missing",
    "file_unused": "a file in a class folder that is no .jpeg, .jpg, .png or .webp: convert it, or move it away",
    "folder_unused": "a folder within a class folder: images are read from the class folders alone",
    "member_sparse": "stored as a sparse file, without its holes: pack it without tar's --sparse",
    "member_repeated": "two images or two entries of one name in one sample: no telling which belong together",
}
"""Why a sample, or what may have held some, is skipped or cannot be read: reason -> what it means."""


TAIL = 64
"""Bytes at the end of an image that go into a fingerprint: compressed data, which no two pictures share."""


class Some(Sequence[Any]):
    """The items of some places of a sequence, each taken out when asked for; a slice likewise."""

    def __init__(self, items: Sequence[Any], places: Sequence[int] | np.ndarray) -> None:
        self.items, self.places = items, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return Some(self.items, self.places[place])
        return self.items[int(self.places[place])]


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
    further: tuple[str, ...] = ()
    """Other captions of the image, where a visit in training draws one of all (``drawn``)."""


@dataclass(frozen=True)
class Pixels:
    """A sample whose image is an array, for transforms that work on arrays."""

    pixels: np.ndarray
    """uint8 [H, W, 3], RGB; not to be written to."""
    caption: str
    further: tuple[str, ...] = ()


Read = TypeVar("Read", bound="Sample | Pixels")


def drawn(sample: Read, seed: int) -> Read:
    """The sample with one of its captions, each as likely; ``seed`` below 2**63 says which."""
    captions = (sample.caption, *sample.further)
    return replace(sample, caption=captions[seed % len(captions)], further=())


@dataclass(frozen=True)
class PoolView:
    """What a pruning method may know of a pool."""

    num_samples: int
    fingerprint: str
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays of N rows by name, such as ``image_embedding``: float [N, d]."""
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)
    """``Pool.truth``, for a control that says it ``uses_truth``; empty for every method."""
    keys: Sequence[str] = ()
    """Names of the samples outside this suite (``Pool.key``), N of them, each looked up when it is taken out; ()
    where nobody tells them."""


class Pool(ABC):
    """Samples that can be read by id from any process."""

    num_samples: int
    fingerprint: str
    """A hash of the content: two pools with one fingerprint hold the same samples under the same ids. Of images in
    files the names, the lengths and the last ``TAIL`` bytes count: a picture that changed ends otherwise."""

    @abstractmethod
    def read(self, sample_id: int) -> Sample:
        """Read and decode one sample. Raises PoolError naming the sample."""

    def read_pixels(self, sample_id: int) -> Pixels:
        """As ``read``; a pool that holds JPEGs decodes them with torchvision, which is faster."""
        sample = self.read(sample_id)
        return Pixels(np.asarray(sample.image), sample.caption)

    def expect(self, ids: np.ndarray) -> AbstractContextManager[Callable[[int], None]]:
        """Told which ids this machine's processes are about to read, in their order, while the context lasts.

        It gives a function that takes how many of them have been read.
        """
        return nullcontext(lambda _count: None)

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
        truth = self.truth if with_truth else {}
        return PoolView(self.num_samples, self.fingerprint, features, truth, Keys(self))


class Keys(Sequence[str]):
    """The keys of a pool's samples by id, looked up when they are taken out."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __len__(self) -> int:
        return self.pool.num_samples

    def __iter__(self) -> Iterator[str]:
        return map(self.pool.key, range(len(self)))

    def __getitem__(self, sample_id: Any) -> Any:
        if isinstance(sample_id, slice):
            return [self.pool.key(i) for i in range(*sample_id.indices(len(self)))]
        return self.pool.key(range(len(self))[sample_id])


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
