"""Scenes of the ``shapes`` pool: what is in a picture, before it is drawn or described.

Lengths and positions are in units of 1/32 of the image's side. Only ``Random.random`` and ``randbytes`` are
drawn from: their streams are the same in every version of Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple, TypeVar

T = TypeVar("T")
Colour = tuple[int, int, int]
Combination = tuple[str, str]
"""The two attributes that classes are made of: colour and shape."""
Place = tuple[str, int, int]
"""A name and where its middle is."""

COLOURS: dict[str, Colour] = {
    "red": (212, 28, 36),
    "orange": (246, 134, 16),
    "yellow": (240, 222, 24),
    "green": (24, 148, 44),
    "cyan": (24, 206, 220),
    "blue": (28, 64, 230),
    "purple": (148, 40, 184),
    "pink": (246, 132, 196),
}
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "heart", "crescent")
TEXTURES = ("solid", "striped", "dotted", "outlined")
SIZES = {"small": (10, 12), "medium": (13, 15), "large": (18, 22)}
"""Smallest and largest side of an object."""
BACKGROUNDS: dict[str, tuple[Colour, Colour]] = {
    "white": ((236, 236, 236), (236, 236, 236)),
    "black": ((24, 24, 24), (24, 24, 24)),
    "grey": ((150, 150, 150), (150, 150, 150)),
    "beige": ((216, 192, 168), (216, 192, 168)),
    "shaded": ((232, 232, 232), (96, 96, 96)),
}
"""Colours of the top and the bottom row."""

COMBINATIONS: tuple[Combination, ...] = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
HELD_OUT: tuple[Combination, ...] = tuple(
    (colour, shape)
    for i, colour in enumerate(COLOURS)
    for j, shape in enumerate(SHAPES)
    if (j - i) % len(SHAPES) in (0, 3, 5)
)
"""Never in a training image or caption, whatever the seed. Each colour and each shape is held out three
times, so that neither the colour alone nor the shape alone tells a class."""
TRAINING: tuple[Combination, ...] = tuple(c for c in COMBINATIONS if c not in HELD_OUT)

_ONE = {
    "top left": (9, 9),
    "top": (16, 9),
    "top right": (23, 9),
    "left": (9, 16),
    "centre": (16, 16),
    "right": (23, 16),
    "bottom left": (9, 23),
    "bottom": (16, 23),
    "bottom right": (23, 23),
}
_TWO = (
    (("left", 8, 16), ("right", 24, 16)),
    (("top", 16, 8), ("bottom", 16, 24)),
    (("top left", 8, 8), ("bottom right", 24, 24)),
    (("top right", 24, 8), ("bottom left", 8, 24)),
)
_FOUR = (("top left", 8, 8), ("top right", 24, 8), ("bottom left", 8, 24), ("bottom right", 24, 24))


class Thing(NamedTuple):
    """One object of a scene."""

    colour: str
    shape: str
    size: str
    texture: str
    place: str
    x: float
    """Of the centre, from the left."""
    y: float
    """Of the centre, from the top."""
    side: int
    tint: Colour
    """Added to the colour's red, green and blue."""


class Scene(NamedTuple):
    """One to three objects that do not overlap, on a background."""

    things: tuple[Thing, ...]
    background: str
    tint: Colour

    @property
    def content(self) -> frozenset[Combination]:
        """Which colours and shapes are in it; no two objects of a scene share both."""
        return frozenset((thing.colour, thing.shape) for thing in self.things)


def pick(rng: Random, options: Sequence[T]) -> T:
    return options[int(rng.random() * len(options))]


def draw_scene(rng: Random, combinations: Sequence[Combination], counts: Sequence[int] = (1, 2, 3)) -> Scene:
    """A random scene of as many objects as one of ``counts``, made of the given combinations."""
    count = pick(rng, counts)
    chosen: list[Combination] = []
    while len(chosen) < count:
        combination = pick(rng, combinations)
        if combination not in chosen:
            chosen.append(combination)
    sizes = ("small", "medium", "large") if count == 1 else ("small", "medium")
    places = _places(rng, count)
    things = tuple(_thing(rng, c, pick(rng, sizes), place) for c, place in zip(chosen, places, strict=True))
    return Scene(things, pick(rng, tuple(BACKGROUNDS)), _tint(rng, 5))


def perturb(scene: Scene, rng: Random) -> Scene:
    """A near-duplicate: the same objects, moved by less than 1/32 of the side, in slightly other colours."""
    things = tuple(
        thing._replace(
            x=_inside(thing.x + 2 * rng.random() - 1, thing.side),
            y=_inside(thing.y + 2 * rng.random() - 1, thing.side),
            tint=_shifted(thing.tint, rng),
        )
        for thing in scene.things
    )
    return Scene(things, scene.background, _shifted(scene.tint, rng))


def _places(rng: Random, count: int) -> tuple[Place, ...]:
    if count == 1:
        name = pick(rng, tuple(_ONE))
        return ((name, *_ONE[name]),)
    if count == 2:
        first, second = pick(rng, _TWO)
        return (first, second) if rng.random() < 0.5 else (second, first)
    start, empty = int(rng.random() * 4), int(rng.random() * 4)
    return tuple(_FOUR[(start + i) % 4] for i in range(4) if (start + i) % 4 != empty)


def _thing(rng: Random, combination: Combination, size: str, place: Place) -> Thing:
    smallest, largest = SIZES[size]
    name, x, y = place
    side = smallest + int(rng.random() * (largest - smallest + 1))
    slack = max(0.5, (15 - side) / 2)
    return Thing(
        *combination,
        size,
        pick(rng, TEXTURES),
        name,
        _inside(x + slack * (2 * rng.random() - 1), side),
        _inside(y + slack * (2 * rng.random() - 1), side),
        side,
        _tint(rng, 12),
    )


def _inside(centre: float, side: int) -> float:
    return min(max(centre, side / 2), 32 - side / 2)


def _tint(rng: Random, most: int) -> Colour:
    span = 2 * most + 1
    return (
        int(rng.random() * span) - most,
        int(rng.random() * span) - most,
        int(rng.random() * span) - most,
    )


def _shifted(tint: Colour, rng: Random) -> Colour:
    by = _tint(rng, 6)
    return (tint[0] + by[0], tint[1] + by[1], tint[2] + by[2])
