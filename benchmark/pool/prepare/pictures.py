"""What preparation does to pictures: cut empty margins, shrink what is large, hash what copies share."""

from __future__ import annotations

import hashlib
import io
import warnings

import numpy as np
from PIL import Image

from benchmark.pool.storage.decode import image_from

COPY_SIZE = 32


def decoded(data: bytes) -> Image.Image:
    """RGB on white. Raises SampleFault, with ``image_too_large`` above Pillow's limit of 89 million pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # counted as image_too_large instead
        return image_from(data)


def without_margins(data: bytes) -> Image.Image:
    """RGB on white without the transparent margins; a picture with nothing but them is kept. Raises SampleFault.

    White margins stay: they may be part of a flag.
    """
    image = decoded(data)
    with Image.open(io.BytesIO(data)) as again:
        if not again.has_transparency_data:
            return image
        box = again.convert("RGBA").getchannel("A").getbbox()
    return image.crop(box) if box else image


def content_of(image: Image.Image) -> str:
    """A hash of the picture drawn at 32 px on white: pictures with one hash count as copies."""
    return hashlib.sha256(_small(image).tobytes()).hexdigest()[:16]


def contrast_of(image: Image.Image) -> int:
    """Largest difference between two places of the picture drawn at 32 px, 0 (one colour) to 255."""
    levels = np.asarray(_small(image)).astype(int)  # [32, 32, 3]
    return int(np.ptp(levels, axis=(0, 1)).max())


def boxed_png(image: Image.Image, side: int) -> bytes:
    """PNG of the whole picture in the middle of a white square of at most ``side``: no centre crop can cut it."""
    copy = image.copy()
    copy.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    square = Image.new("RGB", (max(copy.size), max(copy.size)), "white")
    square.paste(copy, ((square.width - copy.width) // 2, (square.height - copy.height) // 2))
    buffer = io.BytesIO()
    square.save(buffer, "PNG")
    return buffer.getvalue()


def _small(image: Image.Image) -> Image.Image:
    return image.resize((COPY_SIZE, COPY_SIZE), Image.Resampling.BOX)  # integers: the same on every machine
