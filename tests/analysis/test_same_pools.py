"""Fingerprints that two versions of the code gave one pool: its runs stand in one table, if somebody says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from report_trees import put, record

from analysis.blocks.block import build_blocks
from analysis.read.results import load
from benchmark.options import ConfigError

ENTRY = {"pool": "shapes", "fingerprints": ["f1f2f3f4", "other"], "known_by": "both rules on the same files"}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    put(tmp_path / "results", record("full", 0))
    other = {"num_samples": 1000, "fingerprint": "other", "skipped": {}}
    put(tmp_path / "results", record("full", 1, pool_facts=other))
    return tmp_path / "results"


def test_runs_of_another_fingerprint_stand_apart_until_they_are_said_to_be_of_the_same_pool(results: Path) -> None:
    assert len(build_blocks(load(results))) == 2
    (results / "same_pools.yaml").write_text(yaml.safe_dump([ENTRY]))
    (block,) = build_blocks(load(results))
    assert sorted(run.record["seed"] for run in block.rows[0].runs) == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as YAML"),
        ("3", "expected a list"),
        ([3], r"\[0\]: expected pool, fingerprints and known_by"),
        ([{**ENTRY, "why": ""}], r"\[0\]\.why: unknown key"),
        ([{k: v for k, v in ENTRY.items() if k != "known_by"}], "missing known_by"),
        ([{**ENTRY, "fingerprints": ["one"]}], r"\[0\]\.fingerprints: expected two or more"),
        ([{**ENTRY, "fingerprints": ["one", 2]}], r"\[0\]\.fingerprints: expected two or more"),
        ([ENTRY, ENTRY], r"\[1\]\.fingerprints: f1f2f3f4 stands there twice"),
    ],
)
def test_a_mistake_in_the_file_is_one_error_that_names_it(results: Path, content: object, message: str) -> None:
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (results / "same_pools.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"same_pools\.yaml: .*{message}|same_pools\.yaml: {message}"):
        load(results)
