"""Splits that keep what belongs together on one side, and are the same on every machine."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from benchmark.seeds import seed_of


def grouped(links: Sequence[Iterable[Hashable]]) -> list[int]:
    """The group of each item: items are in one group if a chain of shared marks joins them.

    ``links[i]`` holds the marks of item i: its name, the hash of its picture. A group is called by its first item.
    """
    leader = list(range(len(links)))

    def find(item: int) -> int:
        while leader[item] != item:
            leader[item] = leader[leader[item]]
            item = leader[item]
        return item

    first: dict[Hashable, int] = {}
    for item, marks in enumerate(links):
        for mark in marks:
            a, b = find(first.setdefault(mark, item)), find(item)
            leader[max(a, b)] = min(a, b)
    return [find(item) for item in range(len(links))]


def drawn(names: Iterable[str], share: float, purpose: str) -> set[str]:
    """A share of the names, drawn by the hash of each name: whatever else there is does not matter."""
    unique = set(names)
    order = sorted(unique, key=lambda name: place_of(name, purpose))
    return set(order[: round(share * len(unique))])


def place_of(name: str, purpose: str) -> tuple[int, str]:
    """A key that sorts names in an arbitrary, fixed order."""
    return seed_of(0, f"{purpose}:{name}"), name
