"""Prompts of a class made of its members' captions: zero-shot classification by prototypes.

The name of a category ("animals") is a word that captions hardly use; the mean of its members' embeddings is
where its pictures are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

PROMPTS_PER_CLASS = 64


@dataclass(frozen=True)
class Member:
    """The i-th of the prompts of every class."""

    members: Mapping[str, Sequence[str]]
    place: int

    def __call__(self, class_name: str) -> str:
        """Members are spread evenly over the prompts: of many some are left out, of few each is used again."""
        of_class = self.members[class_name]
        return of_class[self.place * len(of_class) // PROMPTS_PER_CLASS]


def prototypes(pairs: Sequence[tuple[str, str]]) -> list[Callable[[str], str]]:
    """Prompt templates from (class name, caption) of training samples; a caption counts once in its class."""
    members: dict[str, dict[str, None]] = {}
    for class_name, caption in pairs:
        members.setdefault(class_name, {})[caption] = None
    lists = {class_name: list(captions) for class_name, captions in members.items()}
    return [Member(lists, place) for place in range(PROMPTS_PER_CLASS)]
