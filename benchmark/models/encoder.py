"""The image tower of a trained model, handed out as a copy: for probes that augment and for fine-tuning.

Letters in shapes: b images, d feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from benchmark.options import check_option

if TYPE_CHECKING:
    from torch import Tensor, nn

LAYERS = ("joint", "penultimate")
"""``joint``: what images and texts share (CLIP), the backbone's output (MoCo). ``penultimate``: before the last
projection."""

ImageTransform = Callable[[Image.Image], "Tensor"]


def check_layer(layer: str) -> None:
    """Raise ValueError unless it is one of ``LAYERS``."""
    check_option("layer", layer, LAYERS)


@dataclass(frozen=True)
class Tower:
    """A network on its own weights, with its transforms: training it leaves the model it came from alone."""

    module: nn.Module
    """float32 [b, 3, H, W] -> [b, d], not normalised; every parameter can be trained."""
    train_transform: ImageTransform
    """The published augmentation of the framework's own evaluations. Draws from torch's CPU generator alone."""
    eval_transform: ImageTransform
    image_size: tuple[int, int]
    """Height and width that the module takes."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of the pixels, from 0 to 1, a channel."""
    is_transformer: bool
    """Published rates differ between transformers and ResNets."""
    logit_scale: float = 1.0
    """What a model with texts multiplies cosines with."""


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


def fingerprint_of_encoder(encoder: Encoder) -> str:
    """A hash of the encoder's weights and preprocessing; "" for an encoder that does not tell."""
    tell = getattr(encoder, "fingerprint", None)
    return str(tell()) if callable(tell) else ""
