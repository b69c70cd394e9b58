"""Captions of the ``shapes`` pool: the same scene can be told in many ways.

A caption always names the colour and the shape of every object, side by side ("red circle"); size, texture,
place and background come and go.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from benchmark.pool.sources._scenes import Scene, Thing, pick

_SIZE = {"small": ("small", "little", "tiny"), "medium": ("medium-sized",), "large": ("large", "big")}
_TEXTURE = {
    "solid": ("solid", "plain"),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "outlined": ("outlined", "hollow"),
}
_OPENING = (
    "",
    "",
    "",
    "a picture of ",
    "an image of ",
    "a drawing of ",
    "a photo of ",
    "there is ",
    "this shows ",
)
_JOIN_TWO = (" and ", " with ", " and also ", " next to ")
_JOIN_THREE = ((", ", " and "), (", ", ", and "), (" with ", " and "), (" and ", " and "))
_PLACE = ("at the {}", "near the {}")

_SHARES = {"size": 0.4, "texture": 0.5, "place": 0.35, "background": 0.4}
"""How often a caption tells it."""

_PROMPTS = (
    "{}",
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "a photo of {}",
    "there is {}",
    "this shows {}",
)


def caption(scene: Scene, rng: Random) -> str:
    """One of the many captions that are true of the scene; at most about 30 words."""
    things = sorted(scene.things, key=lambda _: rng.random())
    tells = _told(len(things), rng)
    if rng.random() < 0.15:
        return _keywords(things, scene, tells, rng)
    opening = pick(rng, _OPENING)
    phrases = [_phrase(thing, tells, rng) for thing in things]
    if len(things) == 2 and "place" not in tells and rng.random() < 0.5:
        body = f"{phrases[0]} {_relation(things[0], things[1], rng)} {phrases[1]}"
    elif len(things) == 2:
        body = pick(rng, _JOIN_TWO).join(phrases)
    elif len(things) == 3:
        first, second = pick(rng, _JOIN_THREE)
        body = f"{phrases[0]}{first}{phrases[1]}{second}{phrases[2]}"
    else:
        body = phrases[0]
    background = _background(scene, rng) if "background" in tells else ""
    return f"{opening}{body}{background}{pick(rng, ('', '', '.'))}"


def _told(count: int, rng: Random) -> frozenset[str]:
    """What a caption tells besides colour and shape; of three objects at most one thing each."""
    told = {part for part, share in _SHARES.items() if rng.random() < share}
    if count == 3:
        told &= {pick(rng, ("size", "texture", "place")), "background"}
    return frozenset(told)


def class_name(colour: str, shape: str) -> str:
    return f"{colour} {shape}"


def prompts() -> list[Callable[[str], str]]:
    """Templates for zero-shot classification, in the wording of the captions."""
    return [partial(_prompt, template) for template in _PROMPTS]


def _prompt(template: str, name: str) -> str:
    return template.format(_with_article(name))


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _adjectives(thing: Thing, tells: frozenset[str], rng: Random) -> list[str]:
    words = [pick(rng, _SIZE[thing.size])] if "size" in tells else []
    if "texture" in tells and (thing.texture != "solid" or rng.random() < 0.5):
        words.append(pick(rng, _TEXTURE[thing.texture]))
    return words


def _phrase(thing: Thing, tells: frozenset[str], rng: Random) -> str:
    noun = _with_article(" ".join([*_adjectives(thing, tells, rng), class_name(thing.colour, thing.shape)]))
    return f"{noun} {pick(rng, _PLACE).format(thing.place)}" if "place" in tells else noun


def _keywords(things: list[Thing], scene: Scene, tells: frozenset[str], rng: Random) -> str:
    words = []
    for thing in things:
        words.append(class_name(thing.colour, thing.shape))
        words += _adjectives(thing, tells, rng)
        if "place" in tells:
            words.append(thing.place)
    if "background" in tells:
        words.append(f"{scene.background} background")
    return ", ".join(words)


def _relation(a: Thing, b: Thing, rng: Random) -> str:
    across, down = a.x - b.x, a.y - b.y
    if abs(across) > 8 and (abs(down) <= 8 or rng.random() < 0.5):
        return "to the left of" if across < 0 else "to the right of"
    return "above" if down < 0 else "below"


def _background(scene: Scene, rng: Random) -> str:
    template = pick(rng, (" on {} background", " against {} background", ", with {} background"))
    return template.format(_with_article(scene.background))
