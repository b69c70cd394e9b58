"""Evaluations on slices of their data, or of what stands in for it: they run, and say what they could not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import TINY_CLIP

from benchmark.config.run import Choice
from benchmark.evaluate.run import evaluate
from benchmark.models.frameworks import make_objective
from benchmark.rehearsal.evaluation import Sliced, Slicer
from benchmark.rehearsal.standins import StandIns


@pytest.fixture
def slicer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slicer:
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SCAN_BENCH_DATA", str(tmp_path / "data"))
    return Slicer(StandIns(tmp_path / "made_up"))


def filled(split: Path, *names: str) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        (split / name).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(split / name / f"{i}.png")


def measured(found: Sliced) -> list[dict[str, Any]]:
    encoder = make_objective("clip", Choice(name="tiny", options=TINY_CLIP["tiny"]), 0).encoder()
    outcome = evaluate(found.slices[:1], encoder, None, lambda *_: None)
    assert not outcome.skipped
    return outcome.rows


def test_a_probe_with_further_sets_is_rehearsed_on_stand_ins_of_all_of_them(slicer: Slicer) -> None:
    asked = {"dataset": "imagenet", "recipe": "clip", "test_on": ["imagenet_v2", "imagenet_r"]}
    found = slicer.of(Choice(name="linear_probe", options=asked))
    assert found.note == "linear_probe on imagenet: its data is not there, made-up images stand in for it"
    assert found.whole == 1_281_167 + 50_000 + 10_000 + 30_000
    rows = measured(found)
    assert len({row["dataset"] for row in rows}) == 3
    assert len(rows) == 6


def test_a_probe_with_further_sets_is_rehearsed_on_slices_of_all_of_them(slicer: Slicer, tmp_path: Path) -> None:
    names = [f"kind {i}" for i in range(20)]
    filled(tmp_path / "data/own/train", *names)
    filled(tmp_path / "data/own/test", *names)
    filled(tmp_path / "data/other/test", *names[::2])
    own, other = ({"image_folder": {"name": name}} for name in ("own", "other"))
    found = slicer.of(Choice(name="linear_probe", options={"dataset": own, "test_on": [other]}))
    assert not found.note
    assert found.whole == 160 + 160 + 80
    assert len(measured(found)) == 4


def test_a_task_that_will_tell_nothing_is_told_and_not_rehearsed_on_something_else(
    slicer: Slicer, tmp_path: Path
) -> None:
    filled(tmp_path / "data/lone/test", "cat")
    found = slicer.of(Choice(name="zero_shot", options={"dataset": {"image_folder": {"name": "lone"}}}))
    assert not found.slices
    assert found.note.startswith("zero_shot on image_folder: will be skipped: lone: one class alone")
