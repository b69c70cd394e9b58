"""``log: [tensorboard, wandb, mlflow]``: a run is one run of its name there; where that fails, it goes on."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sweeping import call
from tiny import clip_grid

from benchmark import signals
from benchmark.config.run import RunConfig
from benchmark.config.sweepfile import read_sweep
from benchmark.job import process
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.runs.log import RunLog

Plan = Callable[..., list[PlannedRun]]


def trained_twice(run: PlannedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before any checkpoint, with lines written, then trained from the beginning to the end."""
    write, calls = RunLog.write, iter(range(100))

    def writing(log: RunLog, line: dict[str, Any], step: int) -> None:
        write(log, line, step)
        if next(calls) == 3:
            raise signals.Stopped(signals.TERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "write", writing)
        with pytest.raises(signals.Stopped):
            process.run(run.folder)
    process.run(run.folder)


def told(run: PlannedRun) -> dict[int, float]:
    """Losses of steps, as ``log.jsonl`` has them."""
    lines = [json.loads(line) for line in run.folder.log.read_text().splitlines()]
    return {8 * line["epoch"] + line["step"] + 1: line["loss"] for line in lines if line["kind"] == "step"}


def test_weights_and_biases_has_one_run_of_its_name_also_after_a_restart(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    (run,) = planned(clip_grid(log=["tensorboard", "wandb"], train={"epochs": 2}))
    trained_twice(run, monkeypatch)
    parts = list((run.folder / "wandb").glob("offline-run-*"))
    assert [part.name.partition("-clip-")[2] for part in parts] == [run.config.name.removeprefix("clip-")] * 2
    assert list(run.folder.tensorboard.glob("events*"))


def test_mlflow_has_one_run_of_its_name_and_each_step_once(
    planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    (run,) = planned(clip_grid(log=["mlflow"], train={"epochs": 2}))
    trained_twice(run, monkeypatch)
    client = MlflowClient()
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == run.config.name
    assert found.data.tags["method"] == "full"
    history = client.get_metric_history(found.info.run_id, "step/loss")
    assert [(metric.step, metric.value) for metric in history] == list(told(run).items())


def test_a_board_that_fails_is_told_and_the_run_goes_on(
    planned: Plan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def init(**_: Any) -> None:
        raise ConnectionError("no network here")

    (run,) = planned(clip_grid(train={"epochs": 1}))
    config = RunConfig.load(run.folder.config)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=lambda **_: None))
    log = RunLog(run.folder, (*config.log, "wandb"))
    log.open(0, 0)
    log.write({"kind": "step", "loss": 1.5}, 1)
    log.close()
    assert "wandb: ConnectionError: no network here; the run goes on without it" in caplog.text
    assert json.loads(run.folder.log.read_text()) == {"kind": "step", "loss": 1.5}
    assert list(run.folder.tensorboard.glob("events*"))


def test_boards_change_no_run_and_what_is_not_there_is_told_at_the_desk(
    write_sweep: Callable[..., Path], planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (usual,) = planned(clip_grid())
    assert "log:" not in usual.folder.config.read_text()
    path = write_sweep(clip_grid(log="wanbd"))
    with pytest.raises(ConfigError, match=r"grid\[0\]\.log: unknown value 'wanbd'; did you mean 'wandb'\?"):
        read_sweep(path)
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlflow" else known(name))
    with pytest.raises(ConfigError, match=r"mlflow is not installed: pip install 'scan-bench\[mlflow\]'"):
        read_sweep(path, ["log=mlflow"])
    (silent,) = planned(clip_grid(log=[]))
    assert silent.config.name == usual.config.name
    assert isinstance(silent.config, RunConfig)
    assert RunConfig.load(silent.folder.config) == silent.config
    assert call(write_sweep(clip_grid(log=[])), "--cluster", "inline") == 0
    assert not silent.folder.tensorboard.exists()
