"""Where a run's numbers are watched: TensorBoard, Weights & Biases, MLflow.

A run is one run there, named as here, also after restarts; none of them is loaded unless asked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from benchmark.config.run import load_sealed
from benchmark.runs.folder import RunFolder

WANDB_LETTERS = 128
"""The longest id of a run there."""
TOLD = ("framework", "pool_label", "method", "seed")
"""Of a configuration, what MLflow can search for."""


class Board(Protocol):
    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Numbers of optimiser step ``step``; those that an attempt before has told are not told again."""

    def close(self) -> None:
        """All is on its way when this returns."""


class TensorBoard:
    """Event files in the run's folder; what lies beyond ``step`` is purged."""

    def __init__(self, folder: RunFolder, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # seconds to load, and a status reads logs too

        self._writer = SummaryWriter(str(folder.tensorboard), purge_step=step)

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """The project is $WANDB_PROJECT, or else the sweep; $WANDB_MODE and the others hold as ever."""

    def __init__(self, folder: RunFolder, step: int) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", folder.parent.name),
            name=folder.name,
            id=folder.name[-WANDB_LETTERS:],  # which ends in the identity
            resume="allow",
            dir=str(folder),
            config=load_sealed(folder.config),
            settings=wandb.Settings(console="off"),
        )
        self._first = self._run.step

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        if step >= self._first:
            self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """The experiment is $MLFLOW_EXPERIMENT_NAME, or else the sweep; $MLFLOW_TRACKING_URI says where."""

    def __init__(self, folder: RunFolder, step: int) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", folder.parent.name)
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        runs = self._client.search_runs([experiment], f"attributes.run_name = '{folder.name}'")
        if not runs:
            config = load_sealed(folder.config)
            tags = {key: str(config.get(key)) for key in TOLD}
            runs = [self._client.create_run(experiment, run_name=folder.name, tags=tags)]
        self._id = runs[0].info.run_id
        self._client.update_run(self._id, status="RUNNING")
        self._last = {
            key: max(metric.step for metric in self._client.get_metric_history(self._id, key))
            for key in runs[0].data.metrics
        }

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = time.time_ns() // 10**6
        new = [Metric(k, v, now, step) for k, v in scalars.items() if step > self._last.get(k, -1)]
        self._client.log_batch(self._id, metrics=new)

    def close(self) -> None:
        self._client.set_terminated(self._id)


BOARDS: dict[str, Callable[[RunFolder, int], Any]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}
