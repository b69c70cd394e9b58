"""Title, description and keywords of an SVG, which stand in its RDF metadata.

The file is untrusted: one that declares an entity is refused, so that none can be expanded, and nothing outside
of the file is ever read.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.parsers import expat

MAX_TEXT = 2000
"""Characters kept of each text."""


class SvgError(ValueError):
    """An SVG that cannot be read; ``reason`` is ``svg_entities`` or ``svg_damaged``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Meta:
    """White space is single spaces; what is not there is "" or ()."""

    title: str
    description: str
    keywords: tuple[str, ...]


def read_meta(data: bytes) -> Meta:
    """What the first RDF ``Work`` of the file says. Raises SvgError."""
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.EntityDeclHandler = _refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise SvgError("svg_damaged", str(error)) from error
    texts = reader.texts
    return Meta(" ".join(texts["title"]), " ".join(texts["description"]), tuple(texts["subject"]))


class _Reader:
    """Collects ``Work/title``, ``Work/description`` and ``Work/subject/Bag/li``."""

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.texts: dict[str, list[str]] = {"title": [], "description": [], "subject": []}
        self.works = 0
        self.collected: list[str] = []

    def start(self, tag: str, _attributes: dict[str, str]) -> None:
        name = tag.rpartition(" ")[2]
        self.works += name == "Work"
        self.stack.append(name)
        self.collected = []

    def text(self, data: str) -> None:
        self.collected.append(data)

    def end(self, _tag: str) -> None:
        field = self._field()
        text = " ".join("".join(self.collected).split())[:MAX_TEXT]
        if field and text and self.works == 1:
            self.texts[field].append(text)
        self.stack.pop()
        self.collected = []

    def _field(self) -> str:
        """The field that the innermost element is the text of, "" for none."""
        if self.stack[-1] in ("title", "description") and self.stack[-2:-1] == ["Work"]:
            return self.stack[-1]
        return "subject" if self.stack[-1] == "li" and self.stack[-4:-2] == ["Work", "subject"] else ""


def _refuse(name: str, *_declaration: object) -> None:
    raise SvgError("svg_entities", f"declares the entity '{name}'")
