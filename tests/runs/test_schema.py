"""The quick check of a record agrees with jsonschema, whatever is changed in a record that fits."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.runs.record import EVALUATION, SCHEMA, read_record
from benchmark.runs.schema import quick_check

ROOT = Path(__file__).parents[2]
RECORDS = [read_record(path) for path in sorted(ROOT.glob("results/quickstart/*/record.json"))]

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.floats(-0.5, 2), st.text(max_size=3),
    st.sampled_from([[], {}, "clip", "zero_shot", [0.1, 0.2], [0, 1, 2], {"a": 1}, {"a": "b"}, 1, 1.0, True]),
)  # fmt: skip


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) within."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place for key, value in pairs for place in [(node, key), *places(value)]]


@given(data=st.data())
def test_a_changed_record_passes_the_quick_check_only_if_it_fits_the_schema(data: st.DataObject) -> None:
    record = copy.deepcopy(data.draw(st.sampled_from(RECORDS)))
    for _ in range(data.draw(st.integers(1, 2))):
        found = places(record)
        node, key = found[data.draw(st.integers(0, len(found) - 1))]
        change = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "remove":
            del node[key]
        elif change == "add" and isinstance(node, dict):
            node[data.draw(st.text(max_size=3))] = copy.deepcopy(data.draw(VALUES))
        else:
            node[key] = copy.deepcopy(data.draw(VALUES))
    fits = jsonschema.Draft202012Validator(SCHEMA).is_valid(record)
    if quick_check(SCHEMA)(record):
        assert fits
    elif fits:  # stricter only where a whole number is written as 1.0
        assert any(isinstance(node[key], float) and node[key].is_integer() for node, key in places(record))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["run"])
def test_records_of_runs_pass_the_quick_check(record: dict[str, Any]) -> None:
    assert quick_check(SCHEMA)(record)
    assert not quick_check(EVALUATION)(record)


@pytest.mark.parametrize("value", [True, 2, "1", None, [], {}, 1.0])
def test_values_of_another_type_do_not_pass(value: Any) -> None:
    assert not quick_check({"const": 1})(value)


def test_a_keyword_without_a_quick_check_is_refused() -> None:
    with pytest.raises(ValueError, match="pattern"):
        quick_check({"type": "string", "pattern": "a+"})
