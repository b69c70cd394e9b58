"""Runs a task on a source that a test wrote by hand."""

from collections.abc import Callable

import jsonschema
import pytest

from benchmark.evaluate import Encoder, Task
from benchmark.pool import Source
from benchmark.record import METRIC, Metric

Evaluate = Callable[[type[Task], Source, Encoder], dict[str, Metric]]


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Task class, source and encoder -> metrics by name, each checked against the record's schema."""

    def run(cls: type[Task], source: Source, encoder: Encoder) -> dict[str, Metric]:
        monkeypatch.setattr(cls, "source", lambda self: source)
        rows = cls(dataset="toy").run(encoder)  # type: ignore[call-arg]
        for row in rows:
            jsonschema.validate(row.row(), METRIC)
            assert row.protocol == cls.protocol
            assert row.ci95[0] <= row.value <= row.ci95[1]
        return {row.metric: row for row in rows}

    return run
