"""Controls of probes: raw pixels and untrained models, measured once for a folder of results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import clip_grid

from benchmark.evaluate import command
from benchmark.evaluate import run as evaluation
from benchmark.evaluate.controls import SIDE, PixelEncoder, controls_of
from benchmark.job import process
from benchmark.models.frameworks import make_objective
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.runs.record import read_evaluation, read_record

KNN = {"knn": {"dataset": "digits"}}
HALF = {"random_dynamic": {"keep_fraction": 0.5}}
ZERO_SHOT = {"zero_shot": {"dataset": {"shapes": {"num_samples": 64}}}}


def test_pixels_are_features_of_one_width_whatever_the_image() -> None:
    images = [Image.new("L", (7, 90), 255), Image.new("RGB", (200, 20), (0, 0, 0))]
    found = PixelEncoder().encode_images(images)
    assert (found.shape, found.dtype) == ((2, 3 * SIDE * SIDE), np.float32)
    assert (found[0] == 1).all()
    assert (found[1] == -1).all()


@pytest.mark.slow
def test_controls_are_measured_once_by_the_probes_of_the_runs(
    planned: Callable[..., list[PlannedRun]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = planned(clip_grid(train={"epochs": 1}, evaluate=[KNN, ZERO_SHOT], pruner=["full", HALF]))
    for one in runs:
        assert process.run(one.folder) == "done"
    before = [one.folder.record.read_bytes() for one in runs]
    assert command.main([str(tmp_path / "results"), "--controls"]) == 0
    pixels, untrained = sorted((tmp_path / "results/controls").glob("*/evaluation.json"))
    told = {kind: read_evaluation(path) for kind, path in (("pixels", pixels), ("untrained", untrained))}
    for kind, one in told.items():
        assert one["control"]["kind"] == kind
        (row,) = one["metrics"]  # k-NN alone: zero-shot has no such control
        of_run = next(r for r in read_record(runs[0].folder.record)["metrics"] if r["task"] == "knn")
        assert all(row[key] == of_run[key] for key in ("task", "dataset", "metric", "protocol", "n"))
    # two methods of one seed share their initial weights, which follow from the configuration alone
    config = runs[0].config
    encoder = make_objective(config.framework, config.model, config.seed).encoder(64)
    expected = evaluation.evaluate(config.evaluate[:1], encoder, None, lambda *_: None).rows
    assert told["untrained"]["metrics"] == json.loads(json.dumps(expected))
    assert told["untrained"]["control"]["seed"] == config.seed
    assert [one.folder.record.read_bytes() for one in runs] == before

    monkeypatch.setattr(command, "_evaluate", lambda *_: pytest.fail("measured twice"))
    assert command.main([str(runs[0].folder.parent), "--controls"]) == 0
    assert command.main([str(runs[0].folder), "--controls"]) == 0


@pytest.mark.slow
def test_a_probe_asked_for_later_is_added(planned: Callable[..., list[PlannedRun]], tmp_path: Path) -> None:
    (one,) = planned(clip_grid(train={"epochs": 1}, evaluate=[ZERO_SHOT]))
    assert process.run(one.folder) == "done"
    with pytest.raises(ConfigError, match="no finished run with a probe that has controls"):
        controls_of(tmp_path / "results")
    for tasks in (["knn:digits"], ["knn:{dataset: digits, k: 5}", "knn:digits"]):
        assert command.main([str(one.folder), "--controls", "--tasks", *tasks]) == 0
    for path in (tmp_path / "results/controls").glob("*/evaluation.json"):
        assert len(read_evaluation(path)["metrics"]) == 2
