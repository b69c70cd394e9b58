"""Raw pixels and untrained models in the report: rows of their own, marks below them, shares of the gain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report_trees import metric, put, put_foreign, record

from analysis import report
from analysis.blocks.block import build_blocks
from analysis.blocks.controls import gain_kept
from analysis.read.results import load
from benchmark.runs.folder import EVALUATION_FILE
from benchmark.runs.record import write_evaluation

RATE = {"training": {"pruning_rate": 0.5, "samples_seen": 2000}}
MODEL = {"name": "vit", "options": {}}


def put_control(results: Path, value: float, **told: Any) -> None:
    base = record()
    made = {key: base[key] for key in ("schema", "code", "versions", "device", "started", "finished")}
    made |= {"kind": "evaluation", "model": "vit", "pretrained": told["kind"], "weights": "w", "control": told}
    name = f"{told['kind']}-{told.get('seed', '')}"
    path = results / "controls" / name / EVALUATION_FILE
    write_evaluation(path, {**made, "metrics": [metric(value)], "evaluate": [], "evaluation_skipped": []})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two methods, two seeds: full at 0.7, scan at 0.6, el2n at 0.45; untrained 0.3, pixels 0.5."""
    folder = tmp_path / "results"
    values = {"full": 0.7, "scan": 0.6, "el2n": 0.45}
    for seed in (0, 1):
        for method, value in values.items():
            put(folder, record(method, seed, metrics=[metric(value)], **({} if method == "full" else RATE)))
    return folder


def made(results: Path, tmp_path: Path) -> Path:
    assert report.main(["--results", str(results), "--out", str(tmp_path / "report")]) == 0
    return tmp_path / "report"


@pytest.mark.parametrize(("pixels", "marks"), [(0.65, []), (0.75, ["below raw pixels"])])
def test_a_task_where_full_data_is_below_raw_pixels_takes_no_part_in_averages(
    pixels: float, marks: list[str], results: Path
) -> None:
    put_control(results, pixels, kind="pixels")
    (block,) = build_blocks(load(results))
    assert list(block.marks.values()) == marks


def test_what_lies_below_raw_pixels_says_so_wherever_it_is_shown(results: Path, tmp_path: Path) -> None:
    put_control(results, 0.5, kind="pixels")
    put_foreign(results, metrics=[metric(0.4)])
    out = made(results, tmp_path)
    told = "below raw pixels (50.0)"
    for name in ("tables/main.md", "tables/main.tex", "tables/main.html", "tables/paper.md", "index.html"):
        text = (out / name).read_text()
        for mark in ("<wbr>", "{", "}", "\\\\"):  # where a line may break, and LaTeX's stacks
            text = text.replace(mark, " " if mark.startswith("\\") else "")
        assert told in " ".join(text.split()), name
    main = pd.read_csv(out / "tables/main.csv")
    probe = main[main.task == "linear_probe"].set_index("method")
    assert probe.is_below_pixels.to_dict() == {"full": False, "scan": False, "el2n": True}
    assert set(probe.pixels) == {0.5}
    assert set(pd.read_csv(out / "tables/values.csv").pixels) == {0.5}
    for path in (out / "figures").glob("*linear_probe*.csv"):
        drawn = pd.read_csv(path).set_index("method")
        assert drawn.is_below_pixels.to_dict() == {"full": False, "scan": False, "el2n": True}, path
    foreign = (out / "tables/main.md").read_text().partition("Models not trained here")[2]
    assert "40.0, below raw pixels (50.0)" in foreign


def test_values_are_told_as_the_share_of_the_gain_that_is_kept(results: Path, tmp_path: Path) -> None:
    for seed, value in ((0, 0.2), (1, 0.4), (7, 0.9)):  # there is no run of seed 7
        put_control(results, value, kind="untrained", framework="clip", model=MODEL, seed=seed)
    out = made(results, tmp_path)
    probe = pd.read_csv(out / "tables/main.csv").query("task == 'linear_probe'").set_index("method")
    assert probe.gain_kept["scan"] == pytest.approx((0.6 - 0.3) / (0.7 - 0.3))
    assert pd.isna(probe.gain_kept["full"])
    assert (probe.untrained["scan"], probe.gain_kept_n["scan"]) == (pytest.approx(0.3), 2)
    text = (out / "tables/main.md").read_text()
    assert "75 % of the gain kept (n = 2)" in text
    assert "| untrained<br>control | — | — | — | 30.0 (sd 14.1, n = 2) |" in text
    assert "75 % of the gain kept (n = 2)" in (out / "tables/paper.md").read_text()


def test_untrained_models_stand_beside_their_own_model_alone(results: Path, tmp_path: Path) -> None:
    put_control(
        results, 0.2, kind="untrained", framework="clip", model={"name": "vit", "options": {"w": 2}}, seed=0
    )
    put_control(results, 0.2, kind="untrained", framework="moco", model=MODEL, seed=1)
    assert "untrained" not in (made(results, tmp_path) / "tables/main.md").read_text()


def test_controls_of_another_protocol_or_set_mark_nothing(results: Path, tmp_path: Path) -> None:
    base = record()
    made_of = {key: base[key] for key in ("schema", "code", "versions", "device", "started", "finished")}
    rows = [metric(0.9, protocol="linear_probe.v2"), metric(0.9, dataset="digits"), metric(0.9, n=999)]
    told = {"kind": "evaluation", "model": "m", "pretrained": "p", "weights": "w", "control": {"kind": "pixels"}}
    path = results / "controls" / "pixels" / EVALUATION_FILE
    write_evaluation(path, {**made_of, **told, "metrics": rows, "evaluate": [], "evaluation_skipped": []})
    assert "raw pixels" not in (made(results, tmp_path) / "tables/main.md").read_text()


def test_without_controls_nothing_is_marked(results: Path, tmp_path: Path) -> None:
    out = made(results, tmp_path)
    for name in ("index.html", "tables/main.md", "tables/paper.md"):
        text = (out / name).read_text()
        assert "raw pixels" not in text
        assert "gain kept" not in text


def test_a_share_needs_a_gain_and_a_common_seed() -> None:
    assert gain_kept({0: 0.5}, {0: 0.7}, {0: 0.3}) == (pytest.approx(0.5), 1)
    assert gain_kept({0: 0.2}, {0: 0.7}, {0: 0.3}) == (pytest.approx(-0.25), 1)
    assert gain_kept({0: 0.5}, {0: 0.3}, {0: 0.3}) == (None, 0)
    assert gain_kept({0: 0.5}, {1: 0.7}, {0: 0.3}) == (None, 0)
