"""What the README says works."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny import clip_grid

from benchmark import plugins, sweep
from benchmark.runs.record import read_record

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def example(tmp_path: Path) -> Iterator[str]:
    """The README's method, dropped into ``baselines`` by putting another folder on the package's path."""
    (name,) = re.findall(r"`baselines/(\w+)\.py`:\n\n```python", README)
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / f"{name}.py").write_text(code)
    package = importlib.import_module("baselines")
    package.__path__.append(str(tmp_path))
    yield name
    package.__path__.remove(str(tmp_path))


def test_the_example_method_is_found_planned_trained_and_recorded(
    example: str, write_sweep: Callable[..., Path]
) -> None:
    assert example in plugins.names("baselines")
    path = write_sweep(clip_grid(pruner={example: {"stride": 2}}, train={"epochs": 2}))
    assert sweep.main([str(path), "--results", str(path.parent / "results"), "--cluster", "inline"]) == 0
    (record,) = path.parent.glob("results/*/*/record.json")
    assert read_record(record)["training"]["pruning_rate"] == 0.5


def test_every_method_stands_in_the_table() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE)) >= set(plugins.names("baselines"))


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
