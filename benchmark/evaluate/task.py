"""Evaluation tasks: each takes an encoder and yields rows for the record. One file a task, found by its name.

``Task`` is the interface: a frozen dataclass whose fields are options. A task's ``protocol`` has a version
that changes with anything that changes its numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

from benchmark import plugins
from benchmark.config.run import Choice, as_choice
from benchmark.models.encoder import Encoder
from benchmark.options import build
from benchmark.pool.source import LabelledSet, PairSet, Source, data_set
from benchmark.runs.record import Metric


@dataclass(frozen=True)
class Part:
    """What a task found on one of its data sets."""

    metrics: Sequence[Metric] = ()
    fingerprint: str = ""
    """Of the set whose items were measured, "" if its content is not known."""
    dataset: Any = None
    """A set beside the task's own, as it was asked for; None for its own."""
    skipped: str = ""
    """Why that set gave no metrics."""
    data_found: bool = True
    """Whether that set could be opened."""
    left_out: int = 0
    """Images that could not be decoded, beside those that an encoder was given."""


class Task(ABC):
    """One evaluation. Subclasses are frozen dataclasses with at least the field ``dataset``."""

    needs_text: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ("train", "test")
    """What ``run`` opens: labelled splits, or ``pairs``; the last is the one whose items it measures."""

    dataset: Any

    @property
    def passes(self) -> int:
        """Epochs of training on the images of the train split; 0 where its features are computed once."""
        return 0

    @property
    @abstractmethod
    def protocol(self) -> str:
        """Name and version of exactly what is done, for example ``zero_shot.v1``; options that change a number
        show in it. A class attribute where no option does."""

    @classmethod
    def published(cls) -> list[Task]:
        """The task with its defaults, once for each of its recipes: for lists and tests."""
        return [cls(dataset="")]  # type: ignore[call-arg]

    @abstractmethod
    def run(self, encoder: Encoder) -> list[Metric]:
        """Evaluate. Raises PoolError if the data is absent."""

    def parts(self, encoder: Encoder) -> Iterator[Part]:
        """What ``run`` finds, a data set at a time; one beside the task's own may be skipped. Raises as it."""
        yield Part(self.run(encoder), self.items_fingerprint())

    @property
    def data_sets(self) -> Mapping[str, Any]:
        """All that it opens, its own first: where it stands among the options -> name, or ``{name: options}``."""
        return {"dataset": self.dataset}

    def source(self) -> Source:
        """The task's data set; its options were checked when the sweep was planned."""
        return self._source

    @cached_property
    def _source(self) -> Source:
        source = data_set(as_choice(self.dataset, "dataset"), "dataset")
        # a split is opened once a task: the check for data, the run and the fingerprint share it
        for name in ("labelled", "pairs"):
            object.__setattr__(source, name, lru_cache(maxsize=None)(getattr(source, name)))
        return source

    def check_data(self) -> None:
        """Open all that ``run`` reads, without a model.

        Raises PoolError if the data is absent, or is such that the task cannot tell models apart.
        """
        for name in self.reads:
            self._open(name).check_measurable()

    def items_fingerprint(self) -> str:
        """Of the set whose items are measured, "" if its content is not known. Raises PoolError."""
        return self._open(self.reads[-1]).fingerprint

    def _open(self, name: str) -> LabelledSet | PairSet:
        return self.source().pairs() if name == "pairs" else self.source().labelled(name)


def make_task(choice: Choice, where: str) -> Task:
    """Build a task and its source from name and options. Raises ConfigError that opens with ``where``."""
    cls = plugins.load("benchmark.evaluate.tasks", choice.name, Task, where)  # type: ignore[type-abstract]
    task = build(cls, choice.options, f"{where}.{choice.name}")
    for place, asked in task.data_sets.items():
        data_set(as_choice(asked, f"{where}.{choice.name}.{place}"), f"{where}.{choice.name}.{place}")
    return task


def logit_scale_of(encoder: Encoder) -> float | None:
    """The encoder's ``logit_scale``; None for an encoder that does not tell."""
    scale: float | None = getattr(encoder, "logit_scale", None)
    return scale
