"""Checksums in the files that others read: a change of one byte is an error that names the file, not a result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import clip_grid

from analysis.read.results import load
from benchmark.config.job import load_config
from benchmark.config.sweepfile import read_sweep
from benchmark.files import sealed, sealed_text, unsealed, unsealed_text
from benchmark.job import process
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun, make_plan, write_plan
from benchmark.runs.record import RecordError, read_record, write_record
from benchmark.runs.state import state_of

Plan = Callable[..., list[PlannedRun]]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
CONTENT = st.dictionaries(st.text().filter(lambda key: key != "sha256"), JSON, max_size=4)


@given(CONTENT)
def test_content_comes_back_from_its_seal_and_from_a_file(content: dict[str, object]) -> None:
    assert unsealed(json.loads(json.dumps(sealed(content), indent=1))) == content
    assert unsealed(content) == content  # as written before there were seals
    assert sealed(sealed(content)) == sealed(content)


@given(st.text(), st.integers(0), st.integers(1, 255))
def test_a_text_with_another_byte_does_not_pass(text: str, place: int, flip: int) -> None:
    whole = sealed_text(text).encode()
    place %= len(whole)
    other = whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :]
    assert unsealed_text(whole.decode()) == text
    with pytest.raises(ValueError):  # also for what is not UTF-8
        unsealed_text(other.decode())


def test_a_record_that_was_changed_is_no_result_until_somebody_vouches_for_it(planned: Plan) -> None:
    (run,) = planned(clip_grid(train={"epochs": 1}, evaluate=[{"zero_shot": {"dataset": "shapes"}}]))
    process.run(run.folder)
    path = run.folder.record
    record = read_record(path)
    content = json.loads(path.read_text())
    content["metrics"][0]["value"] = 0.5
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"record\.json: its content does not match .*take out its line sha256"):
        read_record(path)
    assert state_of(run.folder, run.config).name == "unreadable"
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert read_record(path)["metrics"][0]["value"] == 0.5
    write_record(path, record)
    path.write_text(json.dumps(json.loads(path.read_text())))  # in other lines: nothing has changed
    assert read_record(path) == record


def test_a_configuration_that_was_changed_trains_nothing_and_is_mended_by_planning(
    write_sweep: Callable[..., Path],
) -> None:
    path = write_sweep(clip_grid(train={"epochs": 1}))
    results = path.parent / "results"
    sweep = read_sweep(path)
    runs = make_plan(sweep, results)
    write_plan(runs, sweep, results, "command")
    (run,) = runs
    config = run.folder.config
    whole = config.read_text()
    config.write_text(whole.replace("lr: 0.001", "lr: 0.002"))
    assert config.read_text() != whole
    with pytest.raises(ConfigError, match=r"config\.yaml: its text does not match .* plan the sweep again"):
        process.run(run.folder)
    assert not run.folder.record.exists()
    write_plan(runs, sweep, results, "command")
    assert config.read_text() == whole
    bare = unsealed_text(whole)
    config.write_text(bare)  # as an earlier version left it
    write_plan(runs, sweep, results, "command")
    assert config.read_text() == bare
    assert load_config(config) == run.config
    config.write_bytes(b"\xff" + whole.encode())
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_config(config)
    write_plan(runs, sweep, results, "command")
    assert config.read_text() == whole


def test_a_plan_that_was_changed_is_told_by_the_report(write_sweep: Callable[..., Path]) -> None:
    path = write_sweep(clip_grid())
    results = path.parent / "results"
    sweep = read_sweep(path)
    write_plan(make_plan(sweep, results), sweep, results, "command")
    plan = results / sweep.name / "plan.json"
    assert [one.method for one in load(results).missing] == ["full"]
    plan.write_text(plan.read_text().replace('"method": "full"', '"method": "fulm"'))
    found = load(results)
    assert [problem.where for problem in found.problems] == [str(plan)]
    assert [one.method for one in found.missing] == ["full"]  # as the run's own folder says
