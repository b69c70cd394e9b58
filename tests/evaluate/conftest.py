"""Runs a task on a source that a test wrote by hand."""

from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from benchmark.evaluate.task import Task
from benchmark.models.encoder import Encoder
from benchmark.pool.source import Source
from benchmark.runs.record import METRIC, NATS, Metric

Evaluate = Callable[..., dict[str, Metric]]


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Task class, source, encoder and options -> metrics by name, each checked against the record's schema."""

    def run(cls: type[Task], source: Source, encoder: Encoder, **options: Any) -> dict[str, Metric]:
        monkeypatch.setattr(cls, "source", lambda self: source)
        task = cls(dataset="toy", **options)  # type: ignore[call-arg]
        rows = task.run(encoder)
        for row in rows:
            jsonschema.validate(row.row(), METRIC)
            assert row.protocol == (task.infonce_protocol if row.metric in NATS else task.protocol)  # type: ignore[attr-defined]
            assert row.ci95[0] <= row.value <= row.ci95[1]
        return {row.metric: row for row in rows}

    return run
