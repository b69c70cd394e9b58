"""The worker's half of MoCo v3's views under ``train.augment: device``: two random crops, and the draws for all
else, which ``augment`` does to a batch on the model's device.

Draws are those of ``views.TwoViews``, in its order: a seed gives the same two views both ways, but for rounding,
hue and blur.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision import transforms as tv

from benchmark.models.moco.augment import BLENDS
from benchmark.models.moco.options import MocoModel
from benchmark.models.moco.views import BLUR, CROP_RATIO, GREY, JITTER, JITTERED
from benchmark.models.objective import Tensors
from benchmark.pool.samples import Sample

CONTRAST, SATURATION, HUE = 1, 2, 3
"""Numbers of the operations in ``ColorJitter``'s order; brightness is 0."""
TAP_UNIT = 2.0**-13
"""Weights of the blur are multiples of this: see ``augment.blurred``."""


class Drawn(NamedTuple):
    """What makes one view of an image."""

    box: tuple[int, int, int, int]
    """Top, left, height and width of the crop."""
    jitter: tuple[tuple[int, float], ...]
    """Operations of the colour jitter with their factors, in order; none without jitter."""
    is_grey: bool
    sigma: float
    """Of the blur, in pixels of the view; 0 without."""
    is_solarized: bool
    is_flipped: bool

    def row(self, radius: int) -> list[float]:
        """As ``augment.Row`` reads it, without the box."""
        order = [operation for operation, _ in self.jitter]
        at = order.index(HUE) if self.jitter else 0
        before, after = self.jitter[:at], self.jitter[at + 1 :]
        hue = self.jitter[at][1] if self.jitter else 0.0
        flags = (self.is_grey, self.is_solarized, self.is_flipped)
        return [*_blends(before), *_blends(after), hue, *map(float, flags), *taps(self.sigma, radius)]


class Crops:
    """Sample -> two crops, uint8 [H, H, 3] each, and a row of parameters for each, float32 [2, P].

    Draws from torch's default CPU generator alone, so a seed set before the call decides both views.
    """

    def __init__(self, options: MocoModel) -> None:
        self.options = options
        # three deviations of the widest blur, of what a border can reflect
        self.radius = min(math.ceil(3 * options.blur_sigma_max), options.image_size - 1)
        self._jitter = tv.ColorJitter(*JITTER)

    def __call__(self, sample: Sample) -> Tensors:
        pixels = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1)  # [3, height, width]
        drawn = self.draw(pixels)
        first, second = (cropped(pixels, one.box, self.options.image_size) for one in drawn)
        return first, second, torch.tensor([one.row(self.radius) for one in drawn], dtype=torch.float32)

    def draw(self, pixels: Tensor) -> tuple[Drawn, Drawn]:
        """For the two views of an image, [3, height, width]."""
        first, second = BLUR
        return self._draw(pixels, first, 0.0), self._draw(pixels, second, self.options.solarize_probability)

    def _draw(self, pixels: Tensor, blur: float, solarize: float) -> Drawn:
        options, jitter = self.options, self._jitter
        return Drawn(
            box=tv.RandomResizedCrop.get_params(pixels, [options.crop_min, 1.0], CROP_RATIO),
            jitter=_steps(jitter) if _uniform() <= JITTERED else (),
            is_grey=_uniform() < GREY,
            sigma=_uniform(options.blur_sigma_min, options.blur_sigma_max) if _uniform() <= blur else 0.0,
            is_solarized=_uniform() < solarize,
            is_flipped=_uniform() < (0.5 if options.flip else 0.0),
        )


def cropped(pixels: Tensor, box: tuple[int, int, int, int], size: int) -> Tensor:
    """Part of an image, uint8 [3, height, width], resized to uint8 [size, size, 3].

    torch's kernel for uint8 takes a third of Pillow's time and differs by 1 of 255 in some pixels.
    """
    top, left, height, width = box
    part = pixels[None, :, top : top + height, left : left + width]
    resized = torch.nn.functional.interpolate(part, size=(size, size), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).contiguous()


def taps(sigma: float, radius: int) -> list[float]:
    """Weights of a Gaussian blur at distances 0 to ``radius``; over both sides they add up to 1 exactly."""
    if sigma == 0:
        return [1.0] + [0.0] * radius
    weights = [math.exp(-0.5 * (distance / sigma) ** 2) for distance in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    sides = [round(weight / total / TAP_UNIT) * TAP_UNIT for weight in weights[1:]]
    return [1 - 2 * sum(sides), *sides]


def _steps(jitter: tv.ColorJitter) -> tuple[tuple[int, float], ...]:
    order, *factors = jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    return tuple((operation, factors[operation]) for operation in order.tolist())


def _blends(steps: tuple[tuple[int, float], ...]) -> list[float]:
    """Factor, 1 for contrast, 1 for saturation: of ``BLENDS`` steps, the last ones without effect."""
    known = [(factor, float(step == CONTRAST), float(step == SATURATION)) for step, factor in steps]
    return [value for step in known + [(1.0, 0.0, 0.0)] * (BLENDS - len(known)) for value in step]


def _uniform(low: float = 0.0, high: float = 1.0) -> float:
    return torch.empty(1).uniform_(low, high).item()
