"""A figure's SVG as a part of the page: it takes the page's colours, and its ids are its own."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from analysis.figures.style import BAND, GRID, INK, PAPER, SOFT, STRONG, Drawing

VARIABLES = {
    INK: "currentColor",
    PAPER: "var(--page)",
    SOFT: "var(--soft)",
    GRID: "var(--line)",
    BAND: "var(--band)",
    **{colour: f"var(--{name.replace('_', '-')})" for name, colour in STRONG.items()},
}
"""Colour of a figure -> that of the page, light or dark."""
SCALE = 1.25
"""Largest size on a page over that on paper."""


def inline(drawn: Drawing) -> Markup:
    """Its text was escaped where it was written."""
    svg = drawn.svg.decode()
    start = svg.index("<svg")
    body = svg[svg.index(">", start) + 1 :]
    view = re.search(r"viewBox='([^']*)'", svg[start:])
    body = re.sub(r"(?s)<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", body)
    body = re.sub(r"( id='|url\(#|href='#)", lambda match: f"{match[0]}{drawn.name}-", body)
    body = re.sub(r"#[0-9a-f]{6}\b", lambda match: VARIABLES.get(match[0], match[0]), body)
    label = escape(f"{drawn.title}. {drawn.caption}")
    head = (  # what is black says no colour
        f'<svg role="img" fill="currentColor" aria-label="{label}" viewBox="{view[1] if view else ""}"'
        f' style="max-width:{SCALE * drawn.size[0]:.0f}px" width="{drawn.size[0]}" height="{drawn.size[1]}">'
    )
    return Markup(head + body)
