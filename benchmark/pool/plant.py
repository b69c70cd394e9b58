"""Faults put into a pool on purpose: swapped captions and near-duplicates, known to the report alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from random import Random

import numpy as np
from PIL import Image, ImageEnhance

from benchmark.options import require
from benchmark.pool.samples import Pool, PoolError, Sample, SampleError, digest_of
from benchmark.seeds import generator, seed_of


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
            return replace(sample, image=slightly_changed(sample.image, rng))
        if self._place[sample_id] >= 0:
            return Sample(sample.image, self._foreign_caption(sample_id, sample.caption))
        return sample

    def expect(self, ids: np.ndarray) -> AbstractContextManager[Callable[[int], None]]:
        return self.pool.expect(self._shown(ids))

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
