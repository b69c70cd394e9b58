"""The paper's configurations with their published settings, and where a record differs from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.read.setting import train_options

LEAST_OF_POOL = 0.8
"""Share of a pool's published samples that must be there: links of web data die."""


@dataclass(frozen=True)
class Departure:
    """A setting that is not as published."""

    setting: str
    published: Any
    found: Any
    is_accepted: bool = False
    """The run counts all the same."""

    def __str__(self) -> str:
        found = "not recorded" if self.found is None else self.found
        return f"{self.setting} {found} (published {self.published})"


@dataclass(frozen=True)
class PaperConfiguration:
    """One of the paper's configurations, and what a record must say to be of it."""

    framework: str
    model: str
    pool: str
    num_samples: int
    """Of the pool, as published."""
    dataset: str
    """The one test set that counts."""
    train: Mapping[str, tuple[Any, ...]]
    """Option of ``train`` -> the published value, then others that count; ``lr`` is the peak rate."""
    tolerance: float
    """Relative, of numbers."""
    warmup_ends: tuple[int, int]
    """Epochs of full data: the fewest that SCAN's warm-up can take, and the most that is reckoned with."""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.framework, self.model, self.pool

    @property
    def epochs(self) -> int:
        return int(self.train["epochs"][0])

    def departures(self, record: Mapping[str, Any]) -> list[Departure]:
        """What a record of this framework, model and pool has otherwise than published."""
        departures = []
        samples = record["pool_facts"]["num_samples"]
        if samples < LEAST_OF_POOL * self.num_samples:
            departures.append(Departure("samples of the pool", self.num_samples, samples))
        options = train_options(record["config"]) | {"epochs": record["training"]["epochs"]}
        if options.get("lr_reference_batch") and {"lr", "batch_size"} <= options.keys():
            options["lr"] *= options["batch_size"] / options["lr_reference_batch"]
        for name, values in self.train.items():
            found = options.get(name)
            if not self._is(found, values[0]):
                is_accepted = any(self._is(found, value) for value in values[1:])
                departures.append(Departure(f"train.{name}", values[0], found, is_accepted))
        return departures

    def _is(self, found: Any, wanted: Any) -> bool:
        if isinstance(found, int | float) and isinstance(wanted, int | float):
            return abs(found - wanted) <= self.tolerance * abs(wanted)
        return bool(found == wanted)
