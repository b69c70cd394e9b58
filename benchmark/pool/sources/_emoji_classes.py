"""Classes of the emoji: what an emoji's label is, and what prompts a class has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from benchmark.pool.sources._prepared import Row, templates
from benchmark.pool.sources._prototypes import prototypes

KINDS = ("category", "subcategory", "name")
LEAST_NAMES = 5
"""A subcategory of fewer training names, or without a held-out one, is no class."""
NO_CLASS = "component"
"""The five swatches of skin tones."""


def label_of(row: Row, kind: str) -> str:
    """The row's class, as prompts name it."""
    text: str = row[kind]
    return text if kind == "name" else text.replace("-", " ").lower()


def class_names(rows: Sequence[Row], kind: str) -> list[str]:
    """All classes, sorted. ``rows`` is every row of the data set: both splits have the same classes."""
    if kind == "name":
        return sorted({label_of(row, kind) for row in rows})
    known, held = _names_per_class(rows, kind, "train"), _names_per_class(rows, kind, "test")
    return sorted(
        label for label, count in known.items() if count >= LEAST_NAMES and held[label] and label != NO_CLASS
    )


def prompts(rows: Sequence[Row], kind: str) -> list[Callable[[str], str]]:
    """Templates for zero-shot: a name is its own prompt, a category has the names of its training members."""
    if kind == "name":
        return templates("{}")
    return prototypes([(label_of(row, kind), row["name"]) for row in rows if row["part"] == "train"])


def _names_per_class(rows: Sequence[Row], kind: str, part: str) -> Counter[str]:
    pairs = {(label_of(row, kind), row["name"]) for row in rows if row["part"] == part}
    return Counter(label for label, _ in pairs)
