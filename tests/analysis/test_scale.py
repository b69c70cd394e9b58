"""Large and broken trees: the page stays small, its figures few, and what cannot be used is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from report_trees import plan, put, put_foreign, record

from analysis.page import page
from analysis.page.drawn import Figures
from analysis.report import main


def report(tree: Path) -> str:
    """The page of a tree."""
    assert main(["--results", str(tree / "results"), "--out", str(tree / "report")]) == 0
    return (tree / "report/index.html").read_text(encoding="utf-8")


def test_many_records_have_a_page_of_their_own_that_links_lead_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST_RECORDS_INLINE", 3)
    monkeypatch.setattr("analysis.page.drawn.draw", lambda *_: Figures())
    put(tmp_path / "results", *(record(method, seed) for method in ("full", "scan") for seed in range(12)))
    text = report(tmp_path)
    rows = (tmp_path / "report/provenance.html").read_text(encoding="utf-8")
    targets = re.findall(r'href="provenance\.html#([^"]+)"', text)
    assert targets
    assert all(f'id="{target}"' in rows for target in targets)
    assert rows.count("record.json") == 24
    assert "12 in all" in text
    hrefs = re.findall(r'href="(\.\.[^"#]+)"', rows)
    assert all((tmp_path / "report" / href).is_file() for href in hrefs)


def test_a_mix_of_unreadable_foreign_and_older_records_is_reported_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.page.drawn.draw", lambda *_: Figures())
    results = tmp_path / "results"
    good, older = record("full", 0), record("scan", 0)
    del older["training"]["pruning_seconds"]  # before that was counted
    put(results, good)
    bad = {
        "older": older,
        "not-text": b"\xff\xfe\x00",
        "cut": b'{"schema": 1, "run": ',
        "foreign": b'{"name": "somebody else\'s"}',
        "list": b"[]",
        "empty": b"",
        "newer": {**record("scan", 1), "schema": 2},
    }
    for name, content in bad.items():
        path = results / "tiny" / name / "record.json"
        path.parent.mkdir()
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    (results / "tiny/folder/record.json").mkdir(parents=True)
    (results / "tiny/loose.txt").write_text("no run")
    put_foreign(results)
    plan(results, good, *(record("scan", i, run=name) for i, name in enumerate(bad)))
    text = report(tmp_path)
    said = capsys.readouterr().err
    for name in [*bad, "folder"]:
        path = str(results / "tiny" / name / "record.json")
        assert path in said
        assert path in text
    assert "'pruning_seconds' is a required property" in said
    assert "ViT-B-32 (openai)" in text
    assert re.search(r"1 records; 8 runs planned, <[^>]*>8 missing \(8 unreadable record\)", text)
