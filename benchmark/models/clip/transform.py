"""From a sample to CLIP's input: the augmented image and token ids."""

from __future__ import annotations

import math
import re

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from benchmark.models.objective import Tensors
from benchmark.pool.samples import Pixels, Sample

CROP_SCALE, CROP_RATIO = [0.9, 1.0], [3 / 4, 4 / 3]
"""open_clip's training crop: shares of the area, aspect ratios."""
PIXEL_MEAN = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1) * 255
PIXEL_STD = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1) * 255
"""Of OpenAI's data set, of 255: float32 [3, 1, 1]."""
LOG_CROP_RATIO = torch.log(torch.tensor(CROP_RATIO)).tolist()
ASCII_WORD = re.compile(r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+")
"""The words of open_clip's tokenizer in lower-case ASCII text."""
MAX_WORDS = 100_000
"""Words whose token ids a process remembers."""


class ClipTransform:
    """A training example: the augmented image as uint8 [H, W, 3], and token ids, int64 [context_length].

    The augmentation is open_clip's (a random crop of 0.9 to 1 of the area); ``normalised`` is its other half,
    left to the model's device, so that workers move a quarter of the bytes. A sample's image is resized by what it
    is: Pillow's own, or of ``Pixels`` the array, by torch.
    """

    def __init__(self, image_size: int | tuple[int, int], context_length: int) -> None:
        self.size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        self.tokenizer = open_clip.SimpleTokenizer(context_length=context_length)
        self._ids_of_word: dict[str, list[int]] = {}

    def __call__(self, sample: Sample | Pixels) -> Tensors:
        image = self._from_pixels(sample.pixels) if isinstance(sample, Pixels) else self._from_image(sample.image)
        return image, self.token_ids(sample.caption)

    def _from_image(self, image: Image.Image) -> Tensor:
        top, left, height, width = crop_box(image.height, image.width)
        cropped = image.crop((left, top, left + width, top + height))
        resized = cropped.resize((self.size[1], self.size[0]), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(resized))

    def _from_pixels(self, pixels: np.ndarray) -> Tensor:
        # DEVIATION(decoder): ``train.decoder: torchvision`` rounds otherwise than Pillow, which is published
        top, left, height, width = crop_box(*pixels.shape[:2])
        cropped = torch.from_numpy(pixels[top : top + height, left : left + width].copy())
        channels_last = cropped[None].permute(0, 3, 1, 2)  # torch's fastest order, and that of the result
        resized = interpolate(channels_last, self.size, mode="bicubic", antialias=True)
        return resized.permute(0, 2, 3, 1)[0]

    def token_ids(self, caption: str) -> Tensor:
        """What open_clip's tokenizer gives, int64 [context_length]: a plain ASCII caption takes a shorter way."""
        if not caption.isascii() or "&" in caption or not caption.isprintable():
            return self.tokenizer([caption])[0]
        # without HTML entities, control and non-ASCII characters all the tokenizer's cleaning does is this
        words = ASCII_WORD.findall(" ".join(caption.split()).lower())
        length = self.tokenizer.context_length
        ids = [self.tokenizer.sot_token_id]
        for word in words[:length]:
            ids += self._ids_of_word.get(word) or self._learnt(word)
        ids = [*ids[: length - 1], self.tokenizer.eot_token_id]
        return torch.tensor(ids + [0] * (length - len(ids)))

    def _learnt(self, word: str) -> list[int]:
        ids = [self.tokenizer.encoder[part] for part in self.tokenizer.bpe(word).split(" ")]
        if len(self._ids_of_word) < MAX_WORDS:
            self._ids_of_word[word] = ids
        return ids


def crop_box(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop: the draws of torchvision's ``RandomResizedCrop``."""
    draw = torch.empty(1)
    for _ in range(10):
        target_area = height * width * draw.uniform_(*CROP_SCALE).item()
        ratio = draw.uniform_(*LOG_CROP_RATIO).exp_().item()
        crop_width = round(math.sqrt(target_area * ratio))
        crop_height = round(math.sqrt(target_area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(torch.randint(0, height - crop_height + 1, (1,)))
            left = int(torch.randint(0, width - crop_width + 1, (1,)))
            return top, left, crop_height, crop_width
    crop_width, crop_height = width, height  # the middle, at the nearest ratio allowed
    if width / height < CROP_RATIO[0]:
        crop_height = round(width / CROP_RATIO[0])
    elif width / height > CROP_RATIO[1]:
        crop_width = round(height * CROP_RATIO[1])
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def normalised(images: Tensor, mean: Tensor = PIXEL_MEAN, std: Tensor = PIXEL_STD) -> Tensor:
    """uint8 [b, H, W, 3] -> float32 [b, 3, H, W]; ``mean`` and ``std`` are on the images' device."""
    floats = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return floats.sub_(mean).div_(std)
