"""``from analysis import load``: the numbers of all records in one table, and the examples of its page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from report_trees import metric, plan, put, record

from analysis import load
from analysis.read.frame import COLUMNS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python[^\n]*\n(.*?)```", PAGE, flags=re.DOTALL)


def test_a_row_a_run_and_metric_with_what_is_missing_beside(tmp_path: Path) -> None:
    options = {"name": "scan", "options": {"cycle": 2}}
    scan = record("scan(cycle=2)", 1, metrics=[metric(0.5), metric(0.4, metric="top5")])
    scan["config"]["pruner"] = options
    scan["training"]["pruning_rate"] = 0.25
    full, absent = record(seed=1), record(seed=2)
    put(tmp_path, scan, full, record(sweep="other", run=full["run"], seed=1))
    plan(tmp_path, full, scan, absent)
    (tmp_path / "tiny" / "broken").mkdir()
    (tmp_path / "tiny" / "broken" / "record.json").write_text("{")
    with pytest.warns(UserWarning, match="broken/record.json"):
        frame = load(tmp_path)
    assert frame.columns.tolist() == list(COLUMNS)
    assert frame.attrs["missing"] == [absent["run"], "broken"]
    top1 = frame[frame.metric == "top1"].set_index("method")
    assert top1.loc["scan(cycle=2)", ["seed", "value", "n", "low", "pruned", "samples"]].tolist() == [
        *(1, 0.5, 1000, 0.47, 0.25, 4000)
    ]
    assert top1.loc["scan(cycle=2)", ["pruner", "options"]].tolist() == ["scan", '{"cycle": 2}']
    assert load(tmp_path, "other").run.tolist() == [full["run"]]
    with pytest.raises(ValueError, match="no such folder"):
        load(tmp_path / "no")


def test_it_loads_no_torch() -> None:
    words = "import sys, analysis; analysis.load('results'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("code", EXAMPLES, ids=["pandas", "a plot", "a mixed model"])
def test_an_example_of_the_page_runs(
    code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "statsmodels" in code:
        pytest.importorskip("statsmodels")
    monkeypatch.chdir(ROOT)
    matplotlib.use("agg")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    exec(code, {})
    if "print" in code:
        assert "scan" in capsys.readouterr().out
