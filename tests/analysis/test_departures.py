"""Comments, pages and README tell of the same departures from SCAN and its released code."""

from __future__ import annotations

import re
from pathlib import Path

from analysis.page.departures import departures
from benchmark.config import published

ROOT = Path(__file__).parents[2]
OF_SCAN = re.compile(r"benchmark/(training|models)/|baselines/(scan\w*|_candidates)\.py:")


def section(page: str, heading: str) -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    (found,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return str(found)


def test_readme_page_and_comments_name_the_same_departures_from_scan() -> None:
    tagged = {one.name for one in departures(ROOT) if OF_SCAN.match(one.where)}
    listed = re.findall(r"^\| `(\w+)` \|", section("docs/scan.md", "Departures in the code"), flags=re.MULTILINE)
    told = re.findall(
        r"^- `(\w+)`:", section("README.md", "What departs from the paper and its code"), flags=re.MULTILINE
    )
    assert tagged == set(listed) == set(told)
    assert listed == told


def test_every_option_of_the_published_arm_is_a_departure_and_stands_in_its_table() -> None:
    options = {f"train.{name}" for arm in published.TRAIN.values() for name in arm}
    options |= {f"scan.{name}" for arm in published.SCAN.values() for name in arm}
    table = section("docs/scan.md", "The published arm")
    assert set(re.findall(r"^\| `((?:train|scan)\.\w+)` \|", table, flags=re.MULTILINE)) == options
    assert {name.partition(".")[2] for name in options} <= {one.name for one in departures(ROOT)}
