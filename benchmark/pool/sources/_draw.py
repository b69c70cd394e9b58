"""Draws a scene of the ``shapes`` pool: masks are made once per shape, side and texture, then pasted.

Integer arithmetic and comparisons of short decimals only, so that the pixels do not depend on a library.
"""

from __future__ import annotations

from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image

from benchmark.pool.sources._scenes import BACKGROUNDS, COLOURS, Colour, Scene

UNITS = 32
"""A scene's lengths are in 1/32 of the image's side."""
_FINE = 4
"""Points a pixel's side is sampled at, for smooth edges."""
_NOISE = 8
"""Pixel noise is uniform from minus this to this less 1; a power of 2."""
_STAR = (
    # outer and inner corners in turn, clockwise from the top; x and y from -1 to 1
    (0.000, -1.000),
    (0.270, -0.292),
    (1.000, -0.245),
    (0.437, 0.222),
    (0.640, 0.980),
    (0.000, 0.560),
    (-0.640, 0.980),
    (-0.437, 0.222),
    (-1.000, -0.245),
    (-0.270, -0.292),
)


def render(scene: Scene, rng: Random, image_size: int) -> Image.Image:
    """The scene as an RGB image with pixel noise drawn from ``rng``."""
    canvas = _background(scene.background, image_size) + np.array(scene.tint, dtype=np.int16)  # [s, s, 3]
    unit = max(1, round(image_size / UNITS))
    for thing in scene.things:
        side = max(3, round(thing.side * image_size / UNITS))
        left = _corner(thing.x, side, image_size)
        top = _corner(thing.y, side, image_size)
        area = canvas[top : top + side, left : left + side]
        colour = _tinted(COLOURS[thing.colour], thing.tint)
        area += ((colour - area) * mask(thing.shape, side, thing.texture, unit)) >> 7
    noise = np.frombuffer(rng.randbytes(canvas.size), dtype=np.uint8) & (2 * _NOISE - 1)
    canvas += noise.reshape(canvas.shape)
    canvas -= _NOISE
    return Image.frombytes("RGB", (image_size, image_size), canvas.astype(np.uint8).tobytes())


def _corner(centre: float, side: int, image_size: int) -> int:
    return min(max(int(centre * image_size / UNITS - side / 2 + 0.5), 0), image_size - side)


def _tinted(colour: Colour, tint: Colour) -> np.ndarray:
    # kept off the ends of the range, so that noise cannot leave it
    pairs = zip(colour, tint, strict=True)
    return np.array([min(max(c + t, _NOISE), 255 - _NOISE) for c, t in pairs], dtype=np.int16)


@lru_cache(maxsize=64)
def _background(name: str, image_size: int) -> np.ndarray:
    """int16 [s, s, 3]"""
    top, bottom = np.array(BACKGROUNDS[name], dtype=np.int64)
    row = np.arange(image_size)[:, None]  # [s, 1]
    last = max(1, image_size - 1)
    rows = (top * (last - row) + bottom * row) // last  # [s, 3]
    return np.repeat(rows[:, None], image_size, axis=1).astype(np.int16)


@lru_cache(maxsize=4096)
def mask(shape: str, side: int, texture: str, unit: int) -> np.ndarray:
    """Opacity from 0 to 128, int16 [side, side, 1]; ``unit`` is the width in pixels of a fine line."""
    fine = side * _FINE
    line = unit * _FINE
    at = (np.arange(fine) + 0.5) * 2 / fine - 1
    inside = _inside(shape, at[None, :], at[:, None])  # bool [fine, fine]
    border = inside & ~_eroded(inside, line)
    if texture == "solid":
        drawn = inside
    elif texture == "outlined":
        drawn = inside & ~_eroded(inside, line + line // 2)
    else:
        drawn = border | (inside & _pattern(texture, fine, line))
    counts = drawn.reshape(side, _FINE, side, _FINE).sum(axis=(1, 3))  # of 16
    return (counts * 128 // _FINE**2).astype(np.int16)[:, :, None]


def _pattern(texture: str, fine: int, line: int) -> np.ndarray:
    """What is coloured: bars two lines wide, or all but holes two lines wide, a period four lines."""
    # holes and gaps lie evenly on both sides of the middle
    is_gap = ((np.arange(fine) - fine // 2 + line) // line) % 4 < 2
    if texture == "striped":
        return np.broadcast_to(~is_gap[:, None], (fine, fine))
    assert texture == "dotted"
    return ~(is_gap[:, None] & is_gap[None, :])


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points of [-1, 1] x [-1, 1] lie in the shape; y points down."""
    if shape == "circle":
        return x * x + y * y <= 1
    if shape == "square":
        return np.maximum(abs(x), abs(y)) <= 0.88
    if shape == "triangle":
        return (y <= 0.9) & (2 * abs(x) <= y + 1.1)
    if shape == "diamond":
        return abs(x) / 0.8 + abs(y) <= 1
    if shape == "cross":
        return (np.minimum(abs(x), abs(y)) <= 0.38) & (np.maximum(abs(x), abs(y)) <= 1)
    if shape == "heart":
        lobes = (abs(x) - 0.5) ** 2 + (y + 0.42) ** 2 <= 0.25
        return lobes | ((y >= -0.42) & (abs(x) <= 1 - 0.69 * (y + 0.42)) & (abs(x) * 1.45 <= 1.0 - y))
    if shape == "crescent":
        return (x * x + y * y <= 1) & ((x - 0.55) ** 2 + y * y > 0.64)
    assert shape == "star"
    return _in_polygon(_STAR, x, y)


def _in_polygon(corners: tuple[tuple[float, float], ...], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Even-odd rule: a ray to the left crosses the outline an odd number of times."""
    odd: np.ndarray = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=bool)
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y1 != y2:
            odd = odd ^ ((y1 > y) != (y2 > y)) & (x > x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return odd


def _eroded(inside: np.ndarray, by: int) -> np.ndarray:
    """Points whose square of half-width ``by`` lies inside; beyond the edge counts as outside."""
    kept: np.ndarray = inside
    for axis in (0, 1):
        padded = np.pad(kept, [(by, by) if a == axis else (0, 0) for a in (0, 1)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * by + 1, axis=axis)
        kept = np.asarray(windows.all(axis=-1))
    return kept
