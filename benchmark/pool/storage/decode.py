"""Bytes of a sample become an RGB image and a text; whatever is wrong with them has one of a few reasons.

Images: JPEG, PNG, WebP, GIF and BMP by content, whatever the name says. Alpha is composited on white (as
img2dataset does), 16 bits become 8, of an animation the first frame counts, EXIF orientation is not applied.
torchvision decodes plain JPEGs where arrays are asked for; all else, and what it refuses, is Pillow's.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_IMAGE_BYTES = 1 << 30
"""A file that is larger is not read: it would take a worker's memory."""
HUGE_SIDE, HUGE_KEPT = 4096, 2048
"""Pixels of the shorter side from which an image to evaluate on is made smaller, and which it keeps at least."""
MAX_CAPTION_BYTES = 64 << 10
MAX_JSON_BYTES = 1 << 20
CAPTION_FIELD = "caption"
"""Of a JSON entry, as img2dataset writes it."""


class SampleFault(ValueError):
    """Bytes that are no image or caption; ``reason`` is one of ``benchmark.pool.SAMPLE_FAULTS``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def image_from(data: bytes, decode_size: int | None = None, shrink_huge: bool = False) -> Image.Image:
    """Decode to RGB; with ``decode_size`` a JPEG is decoded at 1/2, 1/4 or 1/8 if no side falls below that.

    ``shrink_huge``: an image whose sides are all of ``HUGE_SIDE`` and more, many times what any model takes, costs
    the memory of a smaller one; all others are as they were.

    Raises SampleFault: image_empty, image_too_large, image_undecodable.
    """
    with _opened(data) as image:
        if shrink_huge and min(image.size) >= HUGE_SIDE:
            return _smaller(image)
        return _decoded(image, decode_size)


def pixels_from(data: bytes, decode_size: int | None = None) -> np.ndarray:
    """The picture of ``image_from`` as uint8 [H, W, 3]. Raises the same SampleFaults."""
    with _opened(data) as image:
        if image.format == "JPEG" and image.mode in ("RGB", "L") and not _shrinks(image, decode_size):
            with suppress(RuntimeError):  # damaged, or of a kind it does not know: Pillow says which
                return _by_torchvision(data)
        return np.asarray(_decoded(image, decode_size))


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The image with its header read; what goes wrong until it is closed becomes a SampleFault."""
    if not data:
        raise SampleFault("image_empty", "0 bytes")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise SampleFault("image_too_large", f"{image.width} x {image.height} pixels, more than {limit}")
            yield image
    except SampleFault:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SampleFault("image_too_large", str(error)) from error
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
        raise SampleFault("image_undecodable", f"{type(error).__name__}: {error}") from error


def captions_from(data: bytes, is_json: bool, field: str = CAPTION_FIELD) -> list[str]:
    """The captions as they stand in the file, at least one: a text is one, a field of JSON one or a list of them.

    Raises SampleFault with one of the reasons ``caption_...``.
    """
    if len(data) > (MAX_JSON_BYTES if is_json else MAX_CAPTION_BYTES):
        raise SampleFault("caption_too_long", f"{len(data)} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SampleFault("caption_not_utf8", str(error)) from error
    return captions_of(record_of(text).get(field) if is_json and text.strip() else text, field)


def captions_of(cell: object, name: str = CAPTION_FIELD) -> list[str]:
    """The captions of a table's cell or of a JSON value: text, UTF-8 bytes, or a list of them, whose empty ones
    are left out. Raises as ``captions_from``."""
    several = cell if isinstance(cell, list) else [cell]
    found = [_text(one, name) for one in several]
    if not any(text.strip() for text in found):
        raise SampleFault("caption_empty", "nothing but white space")
    return [text for text in found if text.strip()]


def record_of(text: str) -> dict[str, Any]:
    """A JSON object. Raises SampleFault caption_not_json."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SampleFault("caption_not_json", str(error)) from error
    if not isinstance(record, dict):
        raise SampleFault("caption_not_json", "not a JSON object")
    return record


def _text(caption: object, name: str) -> str:
    if not isinstance(caption, str | bytes):
        raise SampleFault("caption_missing", f"'{name}' is {type(caption).__name__}")
    try:
        # JSON can spell half of a surrogate pair
        data, text = (caption.encode(), caption) if isinstance(caption, str) else (caption, caption.decode())
    except UnicodeError as error:
        raise SampleFault("caption_not_utf8", str(error)) from error
    if len(data) > MAX_CAPTION_BYTES:
        raise SampleFault("caption_too_long", f"{len(data)} bytes")
    return text


def _by_torchvision(data: bytes) -> np.ndarray:
    import torch  # seconds to load: not when a sweep is planned
    from torchvision.io import ImageReadMode, decode_jpeg

    tensor = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
    return np.asarray(tensor.permute(1, 2, 0))


def _shrinks(image: Image.Image, decode_size: int | None) -> bool:
    """Whether a JPEG is decoded at less than its size."""
    return decode_size is not None and min(image.size) >= 2 * decode_size


def _decoded(image: Image.Image, decode_size: int | None) -> Image.Image:
    _load(image, decode_size)
    return _rgb(image)


def _load(image: Image.Image, decode_size: int | None) -> None:
    if decode_size is not None:
        image.draft(None, (decode_size, decode_size))
    image.load()


def _smaller(image: Image.Image) -> Image.Image:
    _load(image, HUGE_KEPT)
    factor = max(1, min(image.size) // HUGE_KEPT)
    if image.mode in ("L", "RGB", "RGBA") and "transparency" not in image.info:
        return _rgb(image.reduce(factor))  # before the copies that RGB takes
    return _rgb(image).reduce(factor)  # of indices and marked colours no mean can be taken


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        levels = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
