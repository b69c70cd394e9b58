"""The embedded image-caption pool: coloured shapes rendered on the fly from (seed, id), with planted faults.

A share of the samples are near-duplicates of another sample and a share carry another sample's caption. Some
combinations of colour and shape are held out: they never occur in training images or captions, and serve
zero-shot classification, k-NN and probes. The held-out combinations are the same for every seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random

import numpy as np
from PIL import Image

from benchmark.options import require
from benchmark.pool.plant import draw_faults, truth_of
from benchmark.pool.samples import Pool, PoolError, Sample
from benchmark.pool.source import SPLITS, LabelledSet, PairSet, Source
from benchmark.pool.sources._captions import caption, class_name, prompts
from benchmark.pool.sources._draw import render
from benchmark.pool.sources._scenes import (
    COMBINATIONS,
    HELD_OUT,
    SHAPES,
    TRAINING,
    Combination,
    Scene,
    draw_scene,
    perturb,
)
from benchmark.seeds import seed_of

VERSION = 1
"""Goes up with anything that changes a pixel or a letter; it is part of the fingerprint."""

IMAGES_PER_CLASS = {"train": 40, "test": 48}
NUM_PAIRS = 512


@dataclass(frozen=True, kw_only=True)
class Shapes(Source):
    """Pictures of one to three shapes with captions."""

    num_samples: int = 4096
    seed: int = 0
    """Of the content. Evaluation sets follow it too; the held-out combinations do not."""
    near_duplicates: float = 0.10
    """Share of the samples that are slightly perturbed copies of another sample."""
    ill_matched: float = 0.10
    """Share of the samples that carry the caption of another sample, of which they show no object."""
    image_size: int = 32

    def __post_init__(self) -> None:
        require(self.num_samples >= 1, "num_samples", "at least 1", self.num_samples)
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        require(0 <= self.near_duplicates < 1, "near_duplicates", "in [0, 1)", self.near_duplicates)
        require(0 <= self.ill_matched <= 1, "ill_matched", "in [0, 1]", self.ill_matched)
        total = self.near_duplicates + self.ill_matched
        require(total <= 1 + 1e-9, "near_duplicates + ill_matched", "at most 1", total)
        require(16 <= self.image_size <= 512, "image_size", "in [16, 512]", self.image_size)

    @property
    def label(self) -> str:
        default = Shapes()
        parts = ["shapes"]
        if self.num_samples != default.num_samples:
            parts.append(str(self.num_samples))
        if self.near_duplicates != default.near_duplicates:
            parts.append(f"dup{self.near_duplicates:g}")
        if self.ill_matched != default.ill_matched:
            parts.append(f"ill{self.ill_matched:g}")
        return "-".join(parts) + self._suffix()

    def expected_samples(self) -> int:
        return self.num_samples

    def licence(self) -> str:
        return "Rendered by scan-bench from random numbers: it holds nobody's work."

    @property
    def has_truth(self) -> bool:
        return self.near_duplicates > 0 or self.ill_matched > 0

    def training_pool(self) -> ShapesPool:
        return ShapesPool(self)

    def labelled(self, split: str) -> LabelledSet:
        """Images of one object, a class a held-out combination; neither split is part of the training pool."""
        if split not in SPLITS:
            raise PoolError(f"{self.label} has no split '{split}' (known: {', '.join(SPLITS)})")
        count = len(HELD_OUT) * IMAGES_PER_CLASS[split]
        labels = np.arange(count, dtype=np.int64) % len(HELD_OUT)
        images: list[Image.Image] = []
        for i, label in enumerate(labels):
            rng = Random(seed_of(self.seed, f"shapes {split}", i))
            images.append(render(draw_scene(rng, [HELD_OUT[label]], counts=[1]), rng, self.image_size))
        names = [class_name(*combination) for combination in HELD_OUT]
        return LabelledSet("shapes" + self._suffix(), split, images, labels, names, prompts())

    def pairs(self) -> PairSet:
        """Scenes of two or three objects, no two with the same ones; captions are unique.

        Every other pair shows training combinations alone, the rest any combination.
        """
        rng = Random(seed_of(self.seed, "shapes pairs"))
        images: list[Image.Image] = []
        captions: list[str] = []
        seen: set[frozenset[Combination]] = set()
        while len(images) < NUM_PAIRS:
            combinations = TRAINING if len(images) % 2 == 0 else COMBINATIONS
            scene = draw_scene(rng, combinations, counts=[2, 3])
            text = caption(scene, rng)
            if scene.content not in seen and text not in captions:
                seen.add(scene.content)
                captions.append(text)
                images.append(render(scene, rng, self.image_size))
        return PairSet("shapes" + self._suffix(), images, captions, np.arange(NUM_PAIRS, dtype=np.int64))

    def _suffix(self) -> str:
        """What differs from the default and changes the evaluation sets too."""
        seed = f"-seed{self.seed}" if self.seed else ""
        return seed + (f"-{self.image_size}px" if self.image_size != 32 else "")


class ShapesPool(Pool):
    """Rendered when read: opening it draws the planted faults alone."""

    def __init__(self, options: Shapes) -> None:
        self.options = options
        self.num_samples = options.num_samples
        text = json.dumps({"shapes": VERSION, **asdict(options)}, sort_keys=True)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.original_of, ill = draw_faults(
            options.seed, "shapes faults", options.num_samples, options.near_duplicates, options.ill_matched
        )
        self.is_ill_matched = np.zeros(options.num_samples, dtype=bool)
        self.is_ill_matched[ill] = True

    @property
    def truth(self) -> Mapping[str, np.ndarray]:
        return truth_of(self.original_of, self.is_ill_matched)

    @property
    def sample_classes(self) -> tuple[Sequence[str], np.ndarray]:
        """Pictures of one object by its shape, the others by how many they show: ten classes of two sizes."""
        names = [*(f"one {shape}" for shape in SHAPES), "two objects", "three objects"]
        of = np.empty(self.num_samples, dtype=np.int64)
        for sample_id in range(self.num_samples):
            things = self.describe(sample_id)[0].things
            of[sample_id] = SHAPES.index(things[0].shape) if len(things) == 1 else len(SHAPES) + len(things) - 2
        return names, of

    def key(self, sample_id: int) -> str:
        return f"shapes-{sample_id:06d}"

    def read(self, sample_id: int) -> Sample:
        if not 0 <= sample_id < self.num_samples:
            raise PoolError(f"shapes has samples 0 to {self.num_samples - 1}, not {sample_id}")
        scene, text = self.describe(sample_id)
        if self.is_ill_matched[sample_id]:
            text = self._foreign_caption(sample_id, scene.content)
        rng = Random(seed_of(self.options.seed, "shapes pixels", sample_id))
        return Sample(render(scene, rng, self.options.image_size), text)

    def describe(self, sample_id: int) -> tuple[Scene, str]:
        """What the image shows, and a caption that fits it."""
        original = int(self.original_of[sample_id])
        rng = Random(seed_of(self.options.seed, "shapes scene", sample_id if original < 0 else original))
        scene = draw_scene(rng, TRAINING)
        text = caption(scene, rng)
        if original >= 0:
            rng = Random(seed_of(self.options.seed, "shapes copy", sample_id))
            scene = perturb(scene, rng)
            if rng.random() < 0.5:
                text = caption(scene, rng)
        return scene, text

    def _foreign_caption(self, sample_id: int, content: frozenset[Combination]) -> str:
        """The fitting caption of another sample, which shares no object with ``content``."""
        others = self.num_samples - 1
        rng = Random(seed_of(self.options.seed, "shapes mismatch", sample_id))
        start = int(rng.random() * others)
        for step in range(others):
            scene, text = self.describe((sample_id + 1 + (start + step) % others) % self.num_samples)
            if not scene.content & content:
                return text
        raise PoolError(
            f"{self.key(sample_id)}: no sample of other content to take a caption from; raise num_samples"
        )
