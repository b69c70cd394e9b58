"""Everything that lies in a run's folder, each file named once; and what lies in a sweep's."""

from __future__ import annotations

from pathlib import Path, PosixPath
from typing import Any

CONFIG_FILE = "config.yaml"
RECORD_FILE = "record.json"
PLAN_FILE = "plan.json"
"""In a sweep's folder: the command that made it and the runs it asked for."""
SUBMISSIONS_FOLDER = "job/submissions"
"""In a sweep's folder: what was handed to sbatch."""
EVALUATION_FILE = "evaluation.json"
"""Metrics of a model that this suite did not train."""


class RunFolder(PosixPath):
    """The folder of a run, or of a pass over features. What is joined to it is a plain path."""

    @property
    def config(self) -> Path:
        """The resolved configuration, written when the run is planned."""
        return self / CONFIG_FILE

    @property
    def record(self) -> Path:
        """What the run gave, written last."""
        return self / RECORD_FILE

    @property
    def features(self) -> Path:
        """What a pass over features leaves last, in place of a record."""
        return self / "features.json"

    @property
    def error(self) -> Path:
        return self / "error.json"

    @property
    def log(self) -> Path:
        """A line for a logged step and for an epoch."""
        return self / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self / "tensorboard"

    @property
    def coreset(self) -> Path:
        return self / "coreset.npz"

    @property
    def pruned(self) -> Path:
        """Summaries of what was pruned, for the report."""
        return self / "pruned.npz"

    @property
    def predictions(self) -> Path:
        """What the metrics of the record were counted from, item by item (``benchmark.runs.predictions``)."""
        return self / "predictions.npz"

    @property
    def skipped(self) -> Path:
        """Samples that could not be read."""
        return self / "skipped.jsonl"

    @property
    def checkpoint(self) -> Path:
        """A folder: the newest checkpoints, and the final weights."""
        return self / "checkpoint"

    @property
    def final_weights(self) -> Path:
        return self.checkpoint / "final.safetensors"

    @property
    def marks(self) -> Path:
        """A folder: what epochs found of every sample, ``epoch-0002.npy``, uint8 [N], and its neighbours."""
        return self / "marks"

    @property
    def chunks(self) -> Path:
        """A folder: parts of a pass over features."""
        return self / "chunks"

    @property
    def encoded(self) -> Path:
        """A folder: features of evaluation sets, kept for the next evaluation."""
        return self / "features"

    @property
    def job(self) -> Path:
        """A folder: all that attempts leave, submitit's files among it."""
        return self / "job"

    @property
    def started(self) -> Path:
        """Written when an attempt starts; an error is the run's last word only if it is newer."""
        return self.job / "started.json"

    @property
    def attempts(self) -> Path:
        return self.job / "attempts.jsonl"

    @property
    def lease(self) -> Path:
        """Held by the process that works on the run."""
        return self.job / "run.lock"

    @property
    def submitted(self) -> Path:
        """The job it was last submitted as, and the snapshot of the code that it runs."""
        return self.job / "submitted.json"

    def __truediv__(self, key: Any) -> Path:  # type: ignore[override]
        return Path(self).joinpath(key)

    @property
    def parent(self) -> Path:  # type: ignore[override]
        """The sweep's folder."""
        return Path(self).parent
