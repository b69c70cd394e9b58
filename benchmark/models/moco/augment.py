"""Colour jitter, grey, blur, solarising and flip of a whole batch at once, on the device that the model is on.

Nothing is drawn here: ``crops`` gives a row of parameters with each view. Every operation treats each view by
itself, in arithmetic that does not depend on the batch's size, so how samples are spread over batches and ranks
changes no bit; none waits for the device. Between operations values are whole numbers from 0 to 255, as on uint8.

Letters in shapes: b views, H their height and width, P parameters a view, r radius of the blur in pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLENDS = 3
"""Steps of the jitter before the change of hue, and after it: brightness, contrast and saturation in any order."""
AT_ONCE = 128
"""Views in one piece: a few times their floats are held at a time."""
ROUNDED_TO = 1 / 8
"""Of a level, between the two directions of the blur."""


class Row(NamedTuple):
    """Parameters of b views, each [b, n]; ``crops.Drawn.row`` writes them in this order."""

    before: Tensor
    """``BLENDS`` steps of 3 numbers: factor, 1 for contrast, 1 for saturation."""
    after: Tensor
    hue: Tensor
    """Shift, in turns."""
    is_grey: Tensor
    is_solarized: Tensor
    is_flipped: Tensor
    taps: Tensor
    """Of the blur, at distances 0 to r."""


def augmented(pixels: Tensor, rows: Tensor) -> Tensor:
    """Crops, uint8 [b, H, H, 3], with their parameters, float32 [b, P] -> float32 [b, 3, H, H] from 0 to 255."""
    return torch.cat([_augmented(*part) for part in zip(pixels.split(AT_ONCE), rows.split(AT_ONCE), strict=True)])


def as_floats(pixels: Tensor) -> Tensor:
    """uint8 [b, H, H, 3] -> float32 [b, 3, H, H], contiguous."""
    return pixels.permute(0, 3, 1, 2).contiguous().float()


def _augmented(pixels: Tensor, rows: Tensor) -> Tensor:
    widths = [3 * BLENDS, 3 * BLENDS, 1, 1, 1, 1, rows.shape[1] - 6 * BLENDS - 4]
    row = Row(*rows.split(widths, dim=1))
    is_grey, is_solarized, is_flipped = (flag.bool()[:, :, None, None] for flag in row[3:6])
    x = as_floats(torch.where(is_flipped, pixels.flip(2), pixels))  # nothing else tells left from right
    x = hue_shifted(_blended_by(x, row.before), row.hue)
    x = _blended_by(x, row.after)
    x = torch.where(is_grey, luma(x), x)
    x = blurred(x, row.taps)
    return torch.where(is_solarized & (x >= 128), 255 - x, x)


def _blended_by(x: Tensor, steps: Tensor) -> Tensor:
    for step in steps.split(3, dim=1):
        factor, is_contrast, is_saturation = step[:, :, None, None, None].unbind(1)  # [b, 1, 1, 1] each
        x = blended(x, factor, is_contrast, is_saturation)
    return x


def blended(x: Tensor, factor: Tensor, is_contrast: Tensor, is_saturation: Tensor) -> Tensor:
    """Moved from the mean (contrast), the grey image (saturation) or, else, black: Pillow's ``ImageEnhance``.

    The last three are [b, 1, 1, 1]; a factor of 1 changes nothing, one of 0 gives what it moves from.
    """
    grey = luma(x)  # [b, 1, H, H]
    total = grey.sum(dim=3).sum(dim=(1, 2), dtype=torch.float64)  # whole numbers: exact in any order
    mean = (total / grey[0].numel()).add_(0.5).floor_().to(x.dtype)[:, None, None, None]
    other = grey.mul_(is_saturation).add_(mean * is_contrast)
    return (x - other).mul_(factor).add_(other).clamp_(0, 255).floor_()


def luma(x: Tensor) -> Tensor:
    """[b, 3, H, H] -> [b, 1, H, H], Pillow's ``convert("L")``: below 2^24, so every sum is exact."""
    red, green, blue = x.split(1, dim=1)
    return (red * 19595 + green * 38470 + blue * 7471).add_(32768).mul_(2**-16).floor_()


def hue_shifted(x: Tensor, shift: Tensor) -> Tensor:
    """[b, 3, H, H] with the hue turned by ``shift``, [b, 1] in turns, as torchvision's ``adjust_hue``."""
    red, green, blue = x.unbind(1)  # [b, H, H]
    top = x.amax(dim=1)
    spread = top - x.amin(dim=1)
    divisor = spread.clamp(min=1)
    of_green, of_blue = (blue - red) / divisor + 2, (red - green) / divisor + 4
    sixths = torch.where(top == red, (green - blue) / divisor, torch.where(top == green, of_green, of_blue))
    sixths += 6 * shift[:, :, None]
    channels = []
    for offset in (5, 3, 1):  # red, green, blue: where the others stand on the circle, seen from it
        place = sixths + offset
        place -= (place / 6).floor_().mul_(6)
        channels.append(top - torch.minimum(place, 4 - place).clamp_(0, 1).mul_(spread))
    return torch.stack(channels, dim=1).mul_(255.999 / 255).floor_().clamp_(0, 255)


def blurred(x: Tensor, taps: Tensor) -> Tensor:
    """[b, 3, H, H] blurred with each view's weights at distances 0 to r, [b, r + 1]; borders reflect.

    Weights are multiples of 2^-13 and what is between the two directions one of 2^-3: sums stay below 2^24 units,
    and are exact in whatever order a convolution adds.
    """
    # DEVIATION(augment): a Gaussian cut off at r; the published code's, Pillow's, is three box blurs
    b, _, height, width = x.shape
    r = taps.shape[1] - 1
    kernels = torch.cat([taps[:, 1:].flip(1), taps], dim=1)  # [b, 2r + 1]
    kernels = kernels.repeat_interleave(3, dim=0)[:, None, None]  # [3b, 1, 1, 2r + 1]
    planes = x.reshape(1, 3 * b, height, width)
    with torch.autocast(x.device.type, enabled=False):
        for kernel, margin in ((kernels, (r, r, 0, 0)), (kernels.mT, (0, 0, r, r))):
            padded = torch.nn.functional.pad(planes, margin, mode="reflect")
            planes = torch.nn.functional.conv2d(padded, kernel, groups=3 * b)
            planes = planes.div_(ROUNDED_TO).round_().mul_(ROUNDED_TO)
    return planes.round_().view(x.shape)
