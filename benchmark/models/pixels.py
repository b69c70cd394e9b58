"""Images between a loader's worker and the model's device: bytes, which are a quarter of floats.

Letters in shapes: b images.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def pixels_of(image: Image.Image) -> Tensor:
    """RGB image -> uint8 [H, W, 3]."""
    return torch.from_numpy(np.array(image))


def floats_of(pixels: Tensor) -> Tensor:
    """uint8 [b, H, W, 3] -> float32 [b, 3, H, W], from 0 to 255, laid out as stacked images are."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
