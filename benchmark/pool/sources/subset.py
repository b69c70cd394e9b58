"""Part of another source: samples at even distances, images of some of its classes, some of its pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmark.config.run import as_choice
from benchmark.options import require
from benchmark.pool.samples import Pool, PoolError, Sample, digest_of
from benchmark.pool.source import LabelledSet, PairSet, Source, make_source
from benchmark.pool.storage.imagefolder import LazyImages
from benchmark.seeds import generator, seed_of


@dataclass(frozen=True, kw_only=True)
class Subset(Source):
    """At most ``num_samples`` of the pool, of each labelled split and of the held-out images."""

    of: Any
    """The source, a name or ``{name: options}``."""
    num_samples: int
    class_share: float = 1.0
    """Share of the classes whose images are taken, drawn class by class: what two sets both have, both keep."""
    seed: int = 0
    """Which images of the labelled splits and pairs."""

    def __post_init__(self) -> None:
        require(self.num_samples >= 1, "num_samples", "at least 1", self.num_samples)
        require(0 < self.class_share <= 1, "class_share", "above 0 and at most 1", self.class_share)
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        self.source  # noqa: B018 (a wrong option of it is told when the sweep is planned)

    @cached_property
    def source(self) -> Source:
        return make_source(as_choice(self.of, "of"), "of")

    @property
    def label(self) -> str:
        return f"{self.source.label}-{self.num_samples}"

    def expected_samples(self) -> int | None:
        whole = self.source.expected_samples()
        return self.num_samples if whole is None else min(whole, self.num_samples)

    def training_pool(self) -> Pool:
        pool = self.source.training_pool()
        return pool if pool.num_samples <= self.num_samples else PartOfPool(pool, self.num_samples)

    def check_pool(self) -> None:
        self.source.check_pool()

    def licence(self) -> str:
        return self.source.licence()

    @property
    def has_truth(self) -> bool:
        return self.source.has_truth

    def labelled(self, split: str) -> LabelledSet:
        """Of each class that is kept as many images, as far as it has them; other classes are no choice either.

        Where an image may have several classes, all classes are kept.
        """
        whole = self.source.labelled(split)
        order = self._order(len(whole.labels))
        if whole.labels.ndim > 1:
            return self._part(whole, np.sort(order[: self.num_samples]), {})
        classes = self._classes(whole)
        ranked = [order[whole.labels[order] == label] for label in classes]
        each = -(-self.num_samples // len(classes))
        rows = np.sort(np.concatenate([members[:each] for members in ranked]))
        labels = np.searchsorted(classes, whole.labels[rows]).astype(np.int64)
        names = [whole.class_names[label] for label in classes]
        ids = [whole.class_ids[label] for label in classes] if whole.class_ids else ()
        return self._part(whole, rows, {"labels": labels, "class_names": names, "class_ids": ids})

    def _part(self, whole: LabelledSet, rows: np.ndarray, changes: Mapping[str, Any]) -> LabelledSet:
        images = LazyImages(rows.tolist(), whole.images.__getitem__, self._content(whole.fingerprint))
        groups = {kind: of[rows] for kind, of in whole.groups.items()}
        told = {"images": images, "labels": whole.labels[rows], "groups": groups, **changes}
        return dataclasses.replace(whole, **told)

    def pairs(self) -> PairSet:
        whole = self.source.pairs()
        rows = np.sort(self._order(len(whole.images))[: self.num_samples])
        of_image, of_caption = whole.groups
        kept = np.flatnonzero(np.isin(of_caption, of_image[rows]) & np.isin(whole.image_of_caption, rows))
        return PairSet(
            whole.name,
            LazyImages(rows.tolist(), whole.images.__getitem__, self._content(whole.fingerprint)),
            [whole.captions[i] for i in kept],
            np.searchsorted(rows, whole.image_of_caption[kept]).astype(np.int64),
            None if whole.image_group is None else of_image[rows],
        )

    def _classes(self, whole: LabelledSet) -> np.ndarray:
        """Labels of the classes that are kept, int64, rising: at least two where there are two."""
        keys = list(whole.class_ids or whole.class_names)
        drawn = np.array([seed_of(0, f"subset class {key}") for key in keys], dtype=np.float64)
        places = np.argsort(drawn, kind="stable")
        below = int((drawn < self.class_share * 2.0**63).sum()) if self.class_share < 1 else len(keys)
        return np.sort(places[: max(below, min(2, len(keys)))])

    def _order(self, count: int) -> np.ndarray:
        # raw output of the bit generator: NumPy keeps it the same in all versions
        return np.argsort(generator(self.seed, "subset").bit_generator.random_raw(count), kind="stable")

    def _content(self, fingerprint: str) -> str:
        return fingerprint and digest_of([fingerprint, str(self.num_samples), str(self.class_share)])


class PartOfPool(Pool):
    """Samples of another pool at even distances."""

    def __init__(self, pool: Pool, num_samples: int) -> None:
        self.pool, self.num_samples = pool, num_samples
        self.ids = np.linspace(0, pool.num_samples - 1, num_samples).astype(np.int64)
        self.fingerprint = digest_of([pool.fingerprint, f"{num_samples} at even distances"])

    def __reduce__(self) -> tuple[object, ...]:
        return PartOfPool, (self.pool, self.num_samples)

    @property
    def features(self) -> Mapping[str, np.ndarray]:
        return {name: rows[self.ids] for name, rows in self.pool.features.items()}

    @property
    def truth(self) -> Mapping[str, np.ndarray]:
        return {name: flags[self.ids] for name, flags in self.pool.truth.items()}

    @property
    def sample_classes(self) -> tuple[Sequence[str], np.ndarray] | None:
        known = self.pool.sample_classes
        return known and (known[0], known[1][self.ids])

    def key(self, sample_id: int) -> str:
        return self.pool.key(self._there(sample_id))

    def source_of(self, sample_id: int) -> str:
        return self.pool.source_of(self._there(sample_id))

    def caption(self, sample_id: int) -> str:
        return self.pool.caption(self._there(sample_id))

    def read(self, sample_id: int) -> Sample:
        return self.pool.read(self._there(sample_id))

    def _there(self, sample_id: int) -> int:
        if not 0 <= sample_id < self.num_samples:
            raise PoolError(f"the pool has samples 0 to {self.num_samples - 1}, not {sample_id}")
        return int(self.ids[sample_id])
