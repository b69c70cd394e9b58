"""A few figures against pictures that were looked at; letters may be rendered otherwise, nothing may move."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.figures.data import Effect, Point
from analysis.figures.differences import Arm, Panel, Words, draw_differences
from analysis.figures.lines import Line, Lines, draw_lines
from analysis.figures.plots import Scatter, draw_samples
from analysis.figures.style import Drawing, looks

GOLDEN = Path(__file__).parent / "golden"
METHODS = ("scan", "scan_random", "random_subset", "semdedup", "infobatch")
LOOKS = looks(METHODS, "full")
WORDS = Words("name", "title", "caption.")
SMALLER = 4
"""Pictures are compared as means over squares of so many pixels."""
MOST = 30
"""Of 255, the difference of a square: letters of another rendering have less, a marker that moved has more."""


def effect(mean: float, half: float) -> Effect:
    return Effect(3, mean, (mean - half, mean + half), (mean,))


def lead(shift: float = 0.0, is_column: bool = False) -> Drawing:
    arms = [Arm(m, m.replace("_", " "), LOOKS[m], 20.0 + i) for i, m in enumerate(METHODS)]
    average = {m: [effect(shift - 0.4 * i, 0.5)] for i, m in enumerate(METHODS)}
    one = {m: [effect(0.3 - 0.5 * i, 1.5 + 2 * i)] for i, m in enumerate(METHODS)}
    two = {"scan": [Effect(2, 0.0, None, (-0.5, 0.5))]}
    panels = [Panel("average of 2", average), Panel("model, pool", one), Panel("two seeds", two)]
    return draw_differences(WORDS, arms, panels, 1.0, is_column)


def samples(shift: float = 0.0) -> Drawing:
    points = [Point("full", "full", 100, effect(60, 1))]
    points += [Point(m, m, 78 - 10 * (i > 3), effect(59 - 0.5 * i + shift, 1)) for i, m in enumerate(METHODS)]
    return draw_samples(WORDS, "accuracy, %", [Scatter("one", points), Scatter("another", points[:3])], LOOKS)


def lines(shift: float = 0.0) -> Drawing:
    found = [
        Line(m, [(x, effect(shift - 0.04 * x - 0.3 * i, 0.4)) for x in (20, 50, 80)])
        for i, m in enumerate(METHODS)
    ]
    return draw_lines(WORDS, "left out, %", [Lines("", found)], LOOKS, 1.0)


DRAWN = {"lead": lead, "lead-column": lambda shift=0.0: lead(shift, True), "samples": samples, "lines": lines}


def smaller(drawing: Drawing) -> np.ndarray:
    """uint8 [H, W, 3]."""
    image = Image.open(io.BytesIO(drawing.png)).convert("RGB")
    return np.asarray(image.reduce(SMALLER))


def difference(found: np.ndarray, kept: np.ndarray) -> float:
    """The largest of any square and its neighbours, of 255; 255 where the pictures have two sizes."""
    if found.shape != kept.shape:
        return 255.0
    apart = np.abs(found.astype(float) - kept).mean(axis=2)
    around = np.lib.stride_tricks.sliding_window_view(apart, (3, 3)).mean(axis=(2, 3))
    return float(around.max())


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_looks_as_it_did(name: str, tmp_path: Path) -> None:
    found = smaller(DRAWN[name]())
    seen = tmp_path / f"{name}.png"
    Image.fromarray(found).save(seen)
    path = GOLDEN / f"figure-{name}.png"
    kept = np.asarray(Image.open(path)) if path.exists() else np.zeros((1, 1, 3), np.uint8)
    assert difference(found, kept) < MOST, f"look at {seen}; if it is right it replaces {path}"


@pytest.mark.parametrize("name", ["lead", "samples", "lines"])
def test_a_value_that_moved_is_seen(name: str) -> None:
    kept = np.asarray(Image.open(GOLDEN / f"figure-{name}.png"))
    assert difference(smaller(DRAWN[name](0.4)), kept) > MOST
