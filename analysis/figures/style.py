"""How figures look: one colour, marker and line a method, told apart in grey and by colour-blind people."""

from __future__ import annotations

import base64
import io
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from PIL import Image

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH_INCHES = 4.2
"""One panel a figure: at a phone's width its 9 pt letters are still read."""
PANEL_INCHES = 3.1
"""One of several panels."""
MOST_INCHES = 9.3
"""Of a figure: three panels, or two wide ones."""
DPI = 130

_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito, without yellow
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h", "d")
_LINES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
_BASELINE = ("#000000", "o", "-")

RC = {
    "font.size": 9,
    "figure.titlesize": 10,
    "figure.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "text.parse_math": False,  # a "$" in a method's name is a dollar
    "font.family": ["DejaVu Sans", "sans-serif"],
    "svg.fonttype": "none",  # letters stay letters: a fifth of the size, and they can be searched
    "svg.hashsalt": "scan-bench",  # the same records give the same file
}


@dataclass(frozen=True)
class Look:
    """How a method is drawn."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Drawing:
    """A finished figure."""

    name: str
    """File name without its ending."""
    title: str
    caption: str
    png: bytes
    svg: bytes
    data: Sequence[Mapping[str, object]] = ()
    """What is drawn, rows of a CSV."""
    size: tuple[int, int] = (0, 0)
    """Pixels of a page."""

    @property
    def is_wide(self) -> bool:
        """Several panels side by side."""
        return self.size[0] > 96 * WIDTH_INCHES


def looks(family_of: Mapping[str, str], baseline: str) -> dict[str, Look]:
    """The same look for a method in every figure of a report; ``family_of`` holds all methods in order.

    Methods of a family share colour and marker; no two of the first families share both.
    """
    others = [name for name in family_of if family_of[name] != baseline]
    families = {family: i for i, family in enumerate(dict.fromkeys(family_of[name] for name in others))}
    found = {name: Look(*_BASELINE[:2], "--") for name in family_of if family_of[name] == baseline}
    for i, name in enumerate(others):
        place = families[family_of[name]]
        found[name] = Look(
            _COLOURS[place % len(_COLOURS)], _MARKERS[(place + 1) % len(_MARKERS)], _LINES[(i + 1) % len(_LINES)]
        )
    return {**found, baseline: Look(*_BASELINE)}


def slug(*parts: str) -> str:
    """A file name of letters, digits, '_', '.' and '-'."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts)).strip("_.") or "figure"


@contextmanager
def panels(
    count: int, height_inches: float = 2.7, width_inches: float = PANEL_INCHES
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with so many panels of that size, closed at the end; ``finish`` adds the height of the legend."""
    columns = min(count, int(MOST_INCHES / width_inches))
    width = WIDTH_INCHES if count == 1 else width_inches * columns
    with matplotlib.rc_context(RC):
        rows = -(-count // columns)
        figure, grid = plt.subplots(
            rows, columns, figsize=(width, height_inches * rows), layout="constrained", squeeze=False
        )
        for unused in grid.flat[count:]:
            unused.set_axis_off()
        try:
            yield figure, list(grid.flat[:count])
        finally:
            plt.close(figure)


@contextmanager
def axes(height_inches: float = 2.7) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one panel."""
    with panels(1, height_inches) as (figure, (panel,)):
        yield figure, panel


def finish(figure: Figure, drawn: Axes | Sequence[Axes], title: str) -> None:
    """Title over the whole width; methods and seed counts under the panels, where no line is covered."""
    drawn = [drawn] if isinstance(drawn, Axes) else drawn
    wide = len(drawn) > 1
    figure.suptitle(textwrap.fill(title, 110 if wide else 46), x=0.01, ha="left")
    known: dict[str, Artist] = {}
    for panel in drawn:
        panel.set_ylabel(textwrap.fill(panel.get_ylabel(), 28))
        handles, labels = panel.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            known.setdefault(label, handle)
    longest = max(map(len, known), default=0)
    columns = max(1, min(len(known), int(figure.get_figwidth() / (0.6 + 0.071 * longest))))
    if known:
        figure.set_figheight(figure.get_figheight() + 0.165 * -(-len(known) // columns))
        figure.legend(list(known.values()), list(known), loc="outside lower left", ncols=columns, handlelength=3.2)


def embedded(drawing: Drawing) -> str:
    """The figure as a data address, without loss: a quarter of the bytes of the SVG that lies beside the page."""
    file = io.BytesIO()
    Image.open(io.BytesIO(drawing.png)).convert("RGB").save(file, "webp", lossless=True, quality=100, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def drawing(
    figure: Figure, name: str, title: str, caption: str, data: Sequence[Mapping[str, object]] = ()
) -> Drawing:
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)  # once for both files: it takes as long as drawing
    figure.set_layout_engine(None)
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, pil_kwargs={"compress_level": 4})
    figure.savefig(svg, format="svg", metadata={"Date": None})
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    small = _small(svg.getvalue().decode()).encode()
    return Drawing(name, title, caption, png.getvalue(), small, data, (width, height))


def _small(svg: str) -> str:
    """The same picture in a third of the bytes: a tenth of a point is enough, groups need no names."""
    svg = re.sub(r"(?s)<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: DejaVu Sans, Verdana, sans-serif", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"(?s)<[^>]*>", _small_tag, svg)
    return re.sub(r">\s+<", "><", svg)  # a label has its own spaces


def _small_tag(match: re.Match[str]) -> str:
    """Text is left alone; in a tag spaces are single, quotes are such that HTML's attributes can hold them."""
    tag = re.sub(r"\s+", " ", match[0]).replace('"', "'")
    tag = re.sub(r"(?<=[\d' ]) ?\b(?=[LMQz] )|(?<=[LM]) (?=[\d-])", "", tag)
    return re.sub(r"(\d\.\d)\d+", r"\1", tag).replace(": ", ":").replace("; ", ";")
