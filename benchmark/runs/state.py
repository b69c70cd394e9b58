"""A run's state, derived from its folder and never stored: done, partial, failed, absent, running, unreadable."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.config.evaluation import EvaluationConfig
from benchmark.config.job import JobConfig
from benchmark.config.run import RunConfig
from benchmark.runs.errors import error_message, has_new_error
from benchmark.runs.evaluations import left_out, skipped_tasks
from benchmark.runs.folder import RunFolder
from benchmark.runs.lease import is_held
from benchmark.runs.record import RecordError, read_record


@dataclass(frozen=True)
class State:
    """``name`` is one of the words above; ``detail`` is for people."""

    name: str
    detail: str = ""
    origin: str = ""
    """The sweep that the run is taken over from."""

    @property
    def words(self) -> str:
        """``done (of paper_main, incomplete: 1 task skipped)``: the detail where a run is done all the same."""
        told = [f"of {self.origin}"] * bool(self.origin) + [self.detail] * self.is_incomplete
        return f"{self.name} ({', '.join(told)})" if told else self.name

    @property
    def is_incomplete(self) -> bool:
        """Done, but without an evaluation whose data was missing."""
        return self.name == "done" and bool(self.detail)


def state_of(folder: RunFolder, config: JobConfig) -> State:
    """*running* if a process works in the run's folder, else ``state_at_rest``."""
    return State("running") if is_held(folder.lease) else state_at_rest(folder, config)


def state_at_rest(folder: RunFolder, config: JobConfig) -> State:
    """What a run's files say.

    *done*: the record is valid and holds every evaluation asked for, or says why one was skipped. *failed*: the
    run's own error is its newest word. *partial*: a checkpoint is there. *unreadable*: there is a record that is
    not of this schema, or the run is taken over from one that has lost what it gave.
    """
    return replace(_at_rest(folder, config), origin=folder.origin)


def _at_rest(folder: RunFolder, config: JobConfig) -> State:
    found = measured(folder, config)
    if found is None:
        return State("done") if has_record(folder) else unfinished(folder)
    run, asked = found
    try:
        record = read_record(run.record)
    except FileNotFoundError:
        record = None
    except RecordError as error:
        return State("unreadable", str(error))
    if record is not None and record["run"] != asked.name:
        return State(
            "unreadable",
            f"{run.record}: it is the record of {record['run']}, not of this run: move it to where it belongs",
        )
    if record is not None and asked.launch.evaluate and run == folder:
        return State("done")  # trained: the evaluation is a job of its own
    if record is not None and not left_out(record, asked):
        skipped = len(skipped_tasks(record, asked))
        return State("done", f"incomplete: {skipped} task{'s' * (skipped > 1)} skipped" if skipped else "")
    state = unfinished(folder)
    if state.name == "partial" and record is not None:
        return State("partial", "evaluation is missing")
    return state


def measured(folder: RunFolder, config: JobConfig) -> tuple[RunFolder, RunConfig] | None:
    """The run whose record holds what a job measures: its folder and what it is asked for; None for other jobs."""
    if isinstance(config, EvaluationConfig):
        return RunFolder(folder.parent / config.run.name), config.run
    return (folder, config) if isinstance(config, RunConfig) else None


def unfinished(folder: RunFolder) -> State:
    """*failed*, *partial* or *absent*: how a run, a pass over features or a choice without its record stands.

    *unreadable* where it is taken over: then it is not for this sweep to make good what is lost.
    """
    if (home := folder.trained_in) != folder and not (has_record(folder) and has_weights(folder)):
        lost = "record"
        if has_record(folder):
            lost = "final weights for an evaluation that is missing"
        elif folder.features.exists():
            lost = "embeddings"
        elif folder.choice.exists():
            lost = "state of its choice"
        return State(
            "unreadable",
            f"{folder.taken_over}: the run is taken over from {home}, which has no {lost}: put back what was"
            " there, or remove this file to have the run worked on here",
        )
    if has_new_error(folder):
        return State("failed", error_message(folder))
    has_begun = has_checkpoint(folder) or folder.saved.exists() or any(folder.glob("chunks/*.npz"))
    return State("partial" if has_begun else "absent")


def has_record(folder: RunFolder) -> bool:
    """Whether a run has left its record (a pass, a choice its facts, with what others take from it).

    What git ignores of a pass or a choice may be deleted; it is made again for the next that waits for it.
    """
    if folder.record.exists():
        return True
    if folder.features.exists():
        return all(path.exists() for path in arrays_of(folder) or ())
    return folder.choice.exists() and folder.choice_state.exists()


def arrays_of(folder: RunFolder) -> list[Path] | None:
    """Those that a pass over features has left; None if its facts cannot be read."""
    try:
        names = json.loads(folder.features.read_text(encoding="utf-8"))["arrays"]
        return [folder.trained_in / f"{name}.npy" for name in names]
    except (ValueError, KeyError, TypeError):
        return None


def has_checkpoint(folder: RunFolder) -> bool:
    """Whether a run goes on from what it has trained."""
    return has_weights(folder) or any(folder.checkpoint.glob("step-*.sha256"))


def has_weights(folder: RunFolder) -> bool:
    """Whether a run's final weights are there: then it can be evaluated without training."""
    return folder.final_weights.exists()
