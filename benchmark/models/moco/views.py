"""Images into tensors for MoCo v3: two random views of an image to train on, one plain crop to evaluate.

Everything here runs on PIL images, in the loader's workers; under ``train.augment: device`` training takes
``crops`` and ``augment`` instead.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision import transforms as tv

from benchmark.models.moco.options import MocoModel
from benchmark.pool.samples import Sample

IMAGENET_MEAN = np.array((0.485, 0.456, 0.406), dtype=np.float32)[:, None, None]
IMAGENET_STD = np.array((0.229, 0.224, 0.225), dtype=np.float32)[:, None, None]
PIXEL_SCALE, PIXEL_SHIFT = 1 / (255 * IMAGENET_STD), IMAGENET_MEAN / IMAGENET_STD
"""A normalised value is a pixel's times the first less the second."""
SOLARIZE_THRESHOLD = 128
"""Pixel values from here on are inverted, of 255."""

CROP_RATIO = (3 / 4, 4 / 3)
JITTER, JITTERED, GREY = (0.4, 0.4, 0.2, 0.1), 0.8, 0.2
"""Brightness, contrast, saturation and hue; probability of the jitter, and of a grey view."""
BLUR = (1.0, 0.1)
"""Probability in the first view and in the second."""


def to_tensor(image: Image.Image) -> Tensor:
    """RGB image -> normalised float32 [3, H, W]: a fifth of the time of ToTensor and Normalize at 16 pixels."""
    pixels = np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")
    pixels *= PIXEL_SCALE
    pixels -= PIXEL_SHIFT
    return torch.from_numpy(pixels)


def to_pixels(image: Image.Image) -> Tensor:
    """RGB image -> uint8 [H, W, 3]; the objective normalises, so workers move a quarter of the bytes."""
    return torch.from_numpy(np.array(image))


class GaussianBlur:
    """Blur with a standard deviation drawn uniformly from an interval, in pixels of the view."""

    def __init__(self, sigma_min: float, sigma_max: float) -> None:
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def __call__(self, image: Image.Image) -> Image.Image:
        sigma = torch.empty(1).uniform_(self.sigma_min, self.sigma_max).item()
        return image.filter(ImageFilter.GaussianBlur(radius=sigma))


class TwoViews:
    """Sample -> two augmented views, uint8 [H, H, 3] each (the recipe of BYOL, arXiv 2006.07733, appendix B).

    Draws from torch's default CPU generator alone, so a seed set before the call decides both views.
    """

    def __init__(self, options: MocoModel) -> None:
        sigmas = options.blur_sigma_min, options.blur_sigma_max

        def view(blur_probability: float, solarize_probability: float) -> tv.Compose:
            return tv.Compose(
                [
                    tv.RandomResizedCrop(options.image_size, scale=(options.crop_min, 1.0), ratio=CROP_RATIO),
                    tv.RandomApply([tv.ColorJitter(*JITTER)], p=JITTERED),
                    tv.RandomGrayscale(p=GREY),
                    tv.RandomApply([GaussianBlur(*sigmas)], p=blur_probability),
                    tv.RandomSolarize(SOLARIZE_THRESHOLD, p=solarize_probability),
                    tv.RandomHorizontalFlip(p=0.5 if options.flip else 0.0),
                    to_pixels,
                ]
            )

        first, second = BLUR
        self.first = view(blur_probability=first, solarize_probability=0.0)
        self.second = view(blur_probability=second, solarize_probability=options.solarize_probability)

    def __call__(self, sample: Sample) -> tuple[Tensor, Tensor]:
        return self.first(sample.image), self.second(sample.image)


def plain_view(image_size: int, crop_ratio: float) -> tv.Compose:
    """RGB image -> float32 [3, H, H]: the shortest side to H / ``crop_ratio``, then the centre (224 of 256)."""
    return tv.Compose(
        [
            tv.Resize(round(image_size / crop_ratio)),
            tv.CenterCrop(image_size),
            to_tensor,
        ]
    )


def probe_view(image_size: int, flip: bool) -> tv.Compose:
    """RGB image -> float32 [3, H, H] to train a probe on: a crop of 0.08 to 1 and a flip (``main_lincls.py``)."""
    return tv.Compose(
        [
            tv.RandomResizedCrop(image_size),
            tv.RandomHorizontalFlip(p=0.5 if flip else 0.0),
            to_tensor,
        ]
    )
