"""results/README.md: every folder of records is told, with the commits that its records name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.runs.record import read_record

RESULTS = Path("results")
PAGE = (RESULTS / "README.md").read_text(encoding="utf-8")
ROWS = {
    name: set(re.findall(r"`([0-9a-f]{7})`", line))
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for name in re.findall(r"`(\w+)`", line.split("|")[1])
}


def test_every_folder_has_a_row_and_every_row_a_folder() -> None:
    assert set(ROWS) == {path.name for path in RESULTS.iterdir() if path.is_dir()}


@pytest.mark.parametrize("sweep", sorted(ROWS))
def test_the_commits_are_those_of_the_records(sweep: str) -> None:
    records = [read_record(path) for path in (RESULTS / sweep).glob("*/record.json")]
    assert {record["code"]["git_sha"][:7] for record in records} == ROWS[sweep]
