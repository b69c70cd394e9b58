"""Emoji and clip art as one pool: the emoji come first; ``source_of`` tells which of the two a sample is from.

It has no held-out sets of its own: evaluate on ``emoji`` (with the same ``split``) and on ``clipart``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmark.options import NOT_IDENTITY
from benchmark.pool.source import Source
from benchmark.pool.sources import clipart, emoji
from benchmark.pool.sources._prepared import ClassedPool, check_count, open_prepared
from benchmark.pool.storage.build import index_shards
from benchmark.pool.storage.shards import ShardPool


@dataclass(frozen=True, kw_only=True)
class EmojiClipart(Source):
    """Two kinds of small pictures, one clean and one noisy."""

    emoji_root: str = field(default="", metadata=NOT_IDENTITY)
    clipart_root: str = field(default="", metadata=NOT_IDENTITY)
    """Folders that ``prepare`` filled; "" is the usual one."""
    split: str = "names"
    """As of ``emoji``."""

    def __post_init__(self) -> None:
        emoji.Emoji(split=self.split)

    @property
    def label(self) -> str:
        return f"{emoji.Emoji(split=self.split).label}-clipart"

    def expected_samples(self) -> int:
        return emoji.EXPECTED[self.split] + clipart.EXPECTED

    def licence(self) -> str:
        first = open_prepared("emoji", self.emoji_root, emoji.VERSION)
        return f"{first.licence} {open_prepared('clipart', self.clipart_root, clipart.VERSION).licence}"

    def training_pool(self) -> ShardPool:
        first = open_prepared("emoji", self.emoji_root, emoji.VERSION)
        second = open_prepared("clipart", self.clipart_root, clipart.VERSION)
        parts = emoji.TRAINING[self.split]
        check_count(first, emoji.EXPECTED[self.split], *parts)
        check_count(second, clipart.EXPECTED, "train")
        return ClassedPool(
            index_shards(first.shards(*parts) + second.shards("train")),
            lambda: [
                *(f"emoji: {emoji.class_of(row)}" for row in first.rows(*parts)),
                *(f"clipart: {clipart.class_of(row)}" for row in second.rows("train")),
            ],
        )
