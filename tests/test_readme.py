"""What the README says works."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import clip_grid

from analysis.read.methods import DYNAMIC
from benchmark import plugins, sweep
from benchmark.runs.record import read_record

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


EXAMPLES = dict(re.findall(r"`baselines/(\w+)\.py`:\n\n```python\n(.*?)```", README, flags=re.DOTALL))
"""The methods that the README writes out, by name."""


@pytest.fixture
def examples(tmp_path: Path) -> Iterator[None]:
    """The README's methods, dropped into ``baselines`` by putting another folder on the package's path."""
    for name, code in EXAMPLES.items():
        (tmp_path / f"{name}.py").write_text(code)
    package = importlib.import_module("baselines")
    package.__path__.append(str(tmp_path))
    yield
    package.__path__.remove(str(tmp_path))


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize(
    ("name", "options", "rates"),
    [("keep_every", {"stride": 2}, [0.5] * 3), ("skip_easy", {"share": 0.5}, [0.0, 0.25, 0.25])],
)
def test_an_example_method_is_checked_planned_trained_and_recorded(
    name: str, options: dict[str, Any], rates: list[float], write_sweep: Callable[..., Path]
) -> None:
    assert set(EXAMPLES) == {"keep_every", "skip_easy"}
    assert sweep.main(["check", name]) == 0
    path = write_sweep(clip_grid(pruner={name: options}))
    assert sweep.main([str(path), "--results", str(path.parent / "results"), "--cluster", "inline"]) == 0
    (record,) = path.parent.glob("results/*/*/record.json")
    kept = [row["kept"] / 64 for row in read_record(record)["training"]["by_epoch"]]
    assert kept == pytest.approx([1 - rate for rate in rates], abs=0.15)
    assert kept[0] == 1 - rates[0]


def test_every_method_stands_in_the_table() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE)) >= set(plugins.names("baselines"))


def test_the_page_of_methods_opens_with_all_of_them_and_has_a_card_of_each() -> None:
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    opening, _, cards = page.partition("\n## ")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", opening, flags=re.MULTILINE)
    assert sorted(name for name, _ in rows) == plugins.names("baselines")
    dynamic = {name for name, rest in rows if rest.split(" | ")[1].strip() == "dynamic"}
    assert dynamic == DYNAMIC
    assert {rest.split(" | ")[1].strip() for name, rest in rows if name not in dynamic} == {"static", "–"}
    told = set(re.findall(r"\w+", " ".join(re.findall(r"^### (.+)$", cards, flags=re.MULTILINE))))
    assert told >= set(plugins.names("baselines")) - {"full", "scan", "scan_random"}  # of docs/scan.md


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
