"""How figures look: one colour, marker and line a method, told apart in grey and by colour-blind people."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH_INCHES = 4.2
"""One panel a figure: at a phone's width its 9 pt letters are still read."""
DPI = 150

_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito, without yellow
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
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


def looks(methods: Sequence[str], baseline: str) -> dict[str, Look]:
    """The same look for a method in every figure of a report."""
    others = [name for name in methods if name != baseline]
    found = {
        name: Look(_COLOURS[i % len(_COLOURS)], _MARKERS[(i + 1) % len(_MARKERS)], _LINES[(i + 1) % len(_LINES)])
        for i, name in enumerate(others)
    }
    return {baseline: Look(*_BASELINE), **found}


def slug(*parts: str) -> str:
    """A file name of letters, digits, '_', '.' and '-'."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts)).strip("_.") or "figure"


@contextmanager
def axes(height_inches: float = 2.7) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one panel, closed at the end; ``finish`` adds the height of the legend."""
    with matplotlib.rc_context(RC):
        figure, panel = plt.subplots(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        try:
            yield figure, panel
        finally:
            plt.close(figure)


def finish(figure: Figure, panel: Axes, title: str) -> None:
    """Title over the whole width; methods and seed counts under the panel, where no line is covered."""
    figure.suptitle(textwrap.fill(title, 46), x=0.01, ha="left")
    panel.set_ylabel(textwrap.fill(panel.get_ylabel(), 28))
    handles, labels = panel.get_legend_handles_labels()
    columns = 1 if max(map(len, labels), default=0) > 34 else 2
    if handles:
        figure.set_figheight(figure.get_figheight() + 0.19 * -(-len(labels) // columns))
        figure.legend(handles, labels, loc="outside lower left", ncols=columns, handlelength=3.2)


def drawing(figure: Figure, name: str, title: str, caption: str) -> Drawing:
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI)
    figure.savefig(svg, format="svg", metadata={"Date": None})
    return Drawing(name, title, caption, png.getvalue(), svg.getvalue())
