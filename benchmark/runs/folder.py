"""Everything that lies in a run's folder, each file named once; and what lies in a sweep's."""

from __future__ import annotations

import json
import os
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
CONTROLS = "controls"
"""In a folder of results, beside the sweeps: a folder each of raw pixels and of untrained models."""
TAKEN_FROM = "taken_over_from"
"""The key of ``taken_over.json``: a folder, relative to the run's own."""


class RunFolder(PosixPath):
    """The folder of a run, of a pass over features or of a choice. What is joined to it is a plain path.

    Of a run that is taken over from another sweep, all that it gave lies in ``trained_in``: what it is asked for
    (``config``), its ``error`` and its ``job`` are its own.
    """

    @property
    def taken_over(self) -> Path:
        """In place of a record: names the folder of the same run in another sweep (``runs.taken_over``)."""
        return self / "taken_over.json"

    @property
    def trained_in(self) -> RunFolder:
        """Where what the run gave lies: here, or in the folder that it is taken over from."""
        try:
            origin = str(json.loads(self.taken_over.read_text(encoding="utf-8"))[TAKEN_FROM])
        except (FileNotFoundError, NotADirectoryError):
            return self
        except (ValueError, KeyError, TypeError):  # damaged: then nothing is found, and the run's state says so
            origin = "unknown"
        return RunFolder(os.path.normpath(self / origin))

    @property
    def origin(self) -> str:
        """The sweep that the run is taken over from; "" if it is this sweep's own."""
        home = self.trained_in
        return "" if home == self else home.parent.name

    @property
    def config(self) -> Path:
        """The resolved configuration, written when the run is planned."""
        return self / CONFIG_FILE

    @property
    def record(self) -> Path:
        """What the run gave, written last."""
        return self.trained_in / RECORD_FILE

    @property
    def features(self) -> Path:
        """What a pass over features leaves last, in place of a record."""
        return self.trained_in / "features.json"

    @property
    def choice(self) -> Path:
        """What a choice leaves last, in place of a record; the samples themselves are its ``coreset``."""
        return self.trained_in / "choice.json"

    @property
    def choice_state(self) -> Path:
        """The state of the method that chose."""
        return self.trained_in / "state.pt"

    @property
    def error(self) -> Path:
        return self / "error.json"

    @property
    def log(self) -> Path:
        """A line for a logged step and for an epoch."""
        return self.trained_in / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.trained_in / "tensorboard"

    @property
    def coreset(self) -> Path:
        return self.trained_in / "coreset.npz"

    @property
    def pruned(self) -> Path:
        """Summaries of what was pruned, for the report."""
        return self.trained_in / "pruned.npz"

    @property
    def predictions(self) -> Path:
        """What the metrics of the record were counted from, item by item (``benchmark.runs.predictions``)."""
        return self.trained_in / "predictions.npz"

    @property
    def skipped(self) -> Path:
        """Samples that could not be read."""
        return self.trained_in / "skipped.jsonl"

    @property
    def checkpoint(self) -> Path:
        """A folder: the newest checkpoints, and the final weights."""
        return self.trained_in / "checkpoint"

    @property
    def final_weights(self) -> Path:
        return self.checkpoint / "final.safetensors"

    @property
    def exported(self) -> Path:
        """A folder: the model as other tools load it."""
        return self.trained_in / "exported"

    @property
    def marks(self) -> Path:
        """A folder: what epochs found of every sample, ``epoch-0002.npy``, uint8 [N], and its neighbours."""
        return self.trained_in / "marks"

    @property
    def chunks(self) -> Path:
        """A folder: parts of a pass over features."""
        return self.trained_in / "chunks"

    @property
    def encoded(self) -> Path:
        """A folder: features of evaluation sets, kept for the next evaluation."""
        return self.trained_in / "features"

    @property
    def evaluating(self) -> Path:
        """A folder: how far the training of the evaluation that is under way has come."""
        return self.trained_in / "evaluating"

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
    def saved(self) -> Path:
        """How often the evaluation has put something on disk that another attempt goes on from."""
        return self.job / "saved.json"

    @property
    def lease(self) -> Path:
        """Held by the process that works on the run."""
        return self.job / "run.lock"

    @property
    def rehearsal(self) -> Path:
        """There if the run is a rehearsal: whether its job is still to stop itself half way."""
        return self.job / "rehearsal.json"

    def usage(self, rank: int) -> Path:
        """What a rank of a rehearsal took of its machine."""
        return self.job / f"usage-{rank}.json"

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
