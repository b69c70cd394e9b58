"""How figures look: at a paper's column widths, in a fixed palette that the page turns dark, told apart in grey.

SCAN and its control have colours; other methods are grey with markers of their own, and on the page the one that
is pointed at takes its colour.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from benchmark.files import write_atomic, write_text

COLUMN_INCHES = 3.3
"""Of a paper in two columns."""
PAGE_INCHES = 6.9
"""Both columns, or the text of a paper in one."""
DPI = 200

INK, SOFT, GRID, BAND, PAPER = "#000000", "#6b6b6b", "#dddddd", "#ebebeb", "#ffffff"
STRONG = {"scan": "#d55e00", "scan_random": "#0072b2"}
"""Methods with a colour of their own; Okabe and Ito's, as the hues below."""
HUES = ("#009e73", "#cc79a7", "#b38600", "#3a93c9", "#8a5fbf", "#7a5c3e")
"""What a grey method takes when it is pointed at."""
_MARKERS = ("^", "D", "v", "P", "X", "*", "<", ">", "p", "h", "d")
_LINES: tuple[str | tuple[int, tuple[int, ...]], ...] = (
    "--",
    "-.",
    (0, (1, 1)),
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (3, 3)),
)

RC = {
    "font.size": 8,
    "axes.labelsize": 7.5,
    "axes.titlesize": 7.5,
    "axes.titleweight": "bold",
    "axes.linewidth": 0.6,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "text.parse_math": False,  # a "$" in a method's name is a dollar
    "font.family": ["DejaVu Sans", "sans-serif"],
    "pdf.fonttype": 42,  # whole fonts, as journals ask
    "svg.fonttype": "none",  # letters stay letters: a fifth of the size, and they can be searched
    "svg.hashsalt": "scan-bench",  # the same records give the same file
}


@dataclass(frozen=True)
class Look:
    """How a method is drawn."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]
    hue: str = ""
    """What it is drawn in when it is pointed at; its own colour by default."""
    gid: str = ""
    """Marks all that is drawn of the method in a figure (``_small``)."""

    @property
    def is_strong(self) -> bool:
        return self.colour != SOFT

    @property
    def order(self) -> float:
        """What is strong lies above the rest."""
        return 3.0 if self.is_strong else 2.0

    @property
    def face(self) -> str:
        """Of markers: what is grey is hollow."""
        return self.colour if self.is_strong else PAPER


@dataclass(frozen=True)
class Drawing:
    """A finished figure."""

    name: str
    """File name without its ending."""
    title: str
    caption: str
    png: bytes
    svg: bytes
    pdf: bytes
    data: Sequence[Mapping[str, object]] = ()
    """What is drawn, rows of a CSV."""
    size: tuple[int, int] = (0, 0)
    """Pixels of a page."""

    @property
    def is_wide(self) -> bool:
        """Wider than one column."""
        return self.size[0] > 1.2 * 96 * COLUMN_INCHES


def looks(methods: Sequence[str], baseline: str) -> dict[str, Look]:
    """The same look for a method in every figure of a report, however it is set; the first 11 differ."""
    found = {}
    greys, kinds = 0, dict.fromkeys(STRONG, 0)
    for i, method in enumerate(dict.fromkeys([baseline, *methods])):
        name = method.partition("(")[0].partition(",")[0]
        name = "scan" if method.startswith("coreset(runs=scan") else name
        if name == baseline:
            look = Look(INK, "o", "-" if method == baseline else "--", INK)
        elif name in STRONG:
            kind = kinds[name]
            kinds[name] += 1
            marker = ("o" if name == "scan" else "s") if kind == 0 else _MARKERS[kind - 1]
            line = ("-" if name == "scan" else "--") if kind == 0 else _LINES[kind % len(_LINES)]
            look = Look(STRONG[name], marker, line, STRONG[name])
        else:
            marker, line = _MARKERS[greys % len(_MARKERS)], _LINES[greys % len(_LINES)]
            look = Look(SOFT, marker, line, HUES[greys % len(HUES)])
            greys += 1
        found[method] = Look(look.colour, look.marker, look.line, look.hue, f"m-{i}-{look.hue[1:]}")
    return found


def slug(*parts: str) -> str:
    """A file name of letters, digits, '_', '.' and '-'."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts)).strip("_.") or "figure"


@contextmanager
def panels(
    count: int,
    height_inches: float = 1.9,
    a_row: int = 3,
    width_inches: float = PAGE_INCHES,
    width_of_one: float = COLUMN_INCHES,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of that width with so many panels, closed at the end.

    ``height_inches`` is that of a panel; ``finish`` adds the height of the legend.
    """
    columns = min(count, a_row)
    width = width_of_one if count == 1 else width_inches
    with matplotlib.rc_context(RC):
        rows = -(-count // columns)
        figure, found = plt.subplots(
            rows, columns, figsize=(width, height_inches * rows), layout="constrained", squeeze=False
        )
        for unused in found.flat[count:]:
            unused.set_axis_off()
        try:
            yield figure, list(found.flat[:count])
        finally:
            plt.close(figure)


@contextmanager
def axes(height_inches: float = 2.2) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one panel, a column wide."""
    with panels(1, height_inches) as (figure, (panel,)):
        yield figure, panel


def finish(figure: Figure, drawn: Axes | Sequence[Axes]) -> None:
    """Methods and seed counts under the panels, where no line is covered; the title is the caption's."""
    drawn = [drawn] if isinstance(drawn, Axes) else drawn
    known: dict[str, Artist] = {}
    for panel in drawn:
        panel.set_ylabel(textwrap.fill(panel.get_ylabel(), 28))
        handles, labels = panel.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            known.setdefault(label, handle)
    longest = max(map(len, known), default=0)
    columns = max(1, min(len(known), int(figure.get_figwidth() / (0.5 + 0.06 * longest))))
    if known:
        figure.set_figheight(figure.get_figheight() + 0.145 * -(-len(known) // columns))
        figure.legend(list(known.values()), list(known), loc="outside lower left", ncols=columns, handlelength=3)


def save(drawn: Drawing, folder: Path, endings: Sequence[str] = ("png", "svg", "pdf")) -> None:
    """A file an ending, named after the figure, and a CSV of what is drawn where it is told."""
    for ending in endings:
        image: bytes = getattr(drawn, ending)
        write_atomic(folder / f"{drawn.name}.{ending}", lambda file, image=image: file.write(image))  # type: ignore[misc]
    if drawn.data:
        write_text(folder / f"{drawn.name}.csv", DataFrame(drawn.data).to_csv(index=False, lineterminator="\n"))


def drawing(
    figure: Figure, name: str, title: str, caption: str, data: Sequence[Mapping[str, object]] = ()
) -> Drawing:
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)  # once for all files: it takes as long as drawing
    figure.set_layout_engine(None)
    png, svg, pdf = io.BytesIO(), io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, pil_kwargs={"compress_level": 4})
    figure.savefig(svg, format="svg", metadata={"Date": None}, transparent=True)
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    small = _small(svg.getvalue().decode()).encode()
    return Drawing(name, title, caption, png.getvalue(), small, pdf.getvalue(), data, (width, height))


def _small(svg: str) -> str:
    """The same picture in a third of the bytes: a tenth of a point is enough, only methods' groups keep names."""
    svg = re.sub(r"(?s)<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: DejaVu Sans, Verdana, sans-serif", svg)
    svg = re.sub(r'<g id="m-(\d+)-([0-9a-f]{6})"', r'<g data-m="\1" style="--hue:#\2"', svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"(?s)<[^>]*>", _small_tag, svg)
    return re.sub(r">\s+<", "><", svg)  # a label has its own spaces


def _small_tag(match: re.Match[str]) -> str:
    """Text is left alone; in a tag spaces are single, quotes are such that HTML's attributes can hold them."""
    tag = re.sub(r"\s+", " ", match[0]).replace('"', "'")
    tag = re.sub(r"(?<=[\d' ]) ?\b(?=[LMQz] )|(?<=[LM]) (?=[\d-])", "", tag)
    return re.sub(r"(\d\.\d)\d+", r"\1", tag).replace(": ", ":").replace("; ", ";")
