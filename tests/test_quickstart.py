"""The quickstart at a smaller size, end to end: from the sweep file to the report, held against a golden file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis import report
from benchmark import sweep
from benchmark.runs.record import read_record

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden" / "quickstart.md"
SMALLER = [
    "seed=0",
    "train.epochs=4",
    "train.log_every=5",
    "grid[0].pool={shapes: {num_samples: 256}}",
    "grid[0].evaluate=[{zero_shot: {dataset: shapes}}, {retrieval: {dataset: shapes}}]",
    "grid[1].pool={shapes: {num_samples: 256}}",
    "grid[1].model.ViT-nano.depth=1",
    "grid[1].model.ViT-nano.hidden_dim=32",
]
"""Both grids keep their models and methods; four epochs hold SCAN's warm-up, a preparation and a mutation."""


def without_numbers(text: str) -> str:
    """Machines round differently; what stands where must not differ."""
    text = re.sub(r"fingerprint \w+; device.*", "fingerprint ...; device ...; code ...", text)
    return re.sub(r"(?<![\w.])[+−-]?\d[\d,]*(\.\d+)?(?![\w])", "#", text)


def test_from_sweep_file_to_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(ROOT / "sweeps/quickstart.yaml"), *SMALLER, "--results", "runs"]
    assert sweep.main([*words, "--cluster", "inline"]) == 0
    records = [read_record(path) for path in sorted(Path("runs").glob("*/*/record.json"))]
    methods = {
        "clip": ("full", "random_subset", "scan", "scan_random", "semdedup"),
        "moco": ("full", "random_subset", "scan"),
    }
    assert sorted((r["framework"], r["config"]["pruner"]["name"]) for r in records) == [
        (framework, method) for framework, names in methods.items() for method in names
    ]
    for record in records:
        kept = [row["kept"] for row in record["training"]["by_epoch"]]
        assert (len(set(kept)) > 1) == record["config"]["pruner"]["name"].startswith("scan")
        assert record["metrics"]
    assert report.main(["--results", "runs", "--out", "report"]) == 0
    page = Path("report/index.html").read_text(encoding="utf-8")
    assert "none missing" in page
    assert len(list(Path("report/figures").glob("*.svg"))) >= 8
    found = without_numbers(Path("report/tables/main.md").read_text(encoding="utf-8"))
    assert found == GOLDEN.read_text(encoding="utf-8")
    assert sweep.main([*words, "--cluster", "inline"]) == 0  # again: nothing to do
    assert report.main(["--results", "runs", "--out", "report"]) == 0
