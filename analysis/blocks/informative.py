"""``informative.yaml``: which columns of a table tell nothing of methods, by the mean of full data alone."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.blocks.rows import BASELINE, Column, Row
from benchmark.options import ConfigError, check_keys, load_yaml

FILE = Path(__file__).parents[1] / "informative.yaml"
NEAR_CHANCE = "near chance"
AT_CEILING = "at the ceiling"
BELOW_PIXELS = "below raw pixels"
_TOP = re.compile(r"top(\d+)")
_RECALL = re.compile(r"_r(\d+)$")


@dataclass(frozen=True)
class Rule:
    """All of the file; values are fractions."""

    least_above_chance: float
    ceiling: float
    classes: Mapping[str, int]
    """Beginning of a data set's name -> its classes."""

    def chance(self, column: Column) -> float | None:
        """What guessing gives; None where it is not known."""
        if recall := _RECALL.search(column.metric):
            return min(int(recall[1]) / column.items, 1.0)
        names = [n for n in self.classes if column.dataset == n or column.dataset.startswith(f"{n}-")]
        top = 1 if column.metric == "mean_per_class" else (found := _TOP.match(column.metric)) and int(found[1])
        return min(top / self.classes[max(names, key=len)], 1.0) if names and top else None

    def marks(self, rows: Sequence[Row]) -> dict[Column, str]:
        """Column -> why it takes no part in averages; nothing is known without full data. Nats have no bounds."""
        full = next((row for row in rows if row.method == BASELINE), None)
        marks = {}
        for column, cell in (full.cells if full else {}).items():
            if cell.spread is None or column.is_nats:
                continue
            chance = self.chance(column)
            if cell.is_below_pixels:
                marks[column] = BELOW_PIXELS
            elif chance is not None and cell.spread.mean < chance + self.least_above_chance:
                marks[column] = NEAR_CHANCE
            elif cell.spread.mean >= self.ceiling:
                marks[column] = AT_CEILING
        return marks


@functools.cache
def read_rule(path: Path = FILE) -> Rule:
    """Raises ConfigError naming the file and the key."""
    node = load_yaml(path)
    check_keys(node, ["least_above_chance", "ceiling", "classes"], str(path), all_required=True)
    if not isinstance(node["classes"], Mapping) or not all(
        isinstance(count, int) and count > 1 for count in node["classes"].values()
    ):
        raise ConfigError(f"{path}: classes: expected the name of a data set and its number of classes, 2 or more")
    for key in ("least_above_chance", "ceiling"):
        if not isinstance(node[key], int | float) or not 0 <= node[key] <= 1:
            raise ConfigError(f"{path}: {key}: must be a fraction from 0 to 1, got {node[key]!r}")
    return Rule(float(node["least_above_chance"]), float(node["ceiling"]), dict(node["classes"]))
