"""A run that another sweep of the same results folder has done is taken over, not trained again.

In place of the record stands ``taken_over.json`` with the folder of the same run in the other sweep. There is one
record, there: an evaluation that only this sweep asks for is added to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.config.choice_pass import ChoiceConfig
from benchmark.config.evaluation import EvaluationConfig
from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.job import JobConfig
from benchmark.config.run import RunConfig
from benchmark.files import write_text
from benchmark.runs.folder import TAKEN_FROM, RunFolder
from benchmark.runs.state import arrays_of, has_record, state_at_rest


def take_over(folder: RunFolder, origin: RunFolder) -> None:
    """Let the run in ``origin`` stand for the one in ``folder``, whose lease the caller holds."""
    write_text(folder.taken_over, json.dumps({TAKEN_FROM: os.path.relpath(origin, folder)}) + "\n")


def find_origin(
    folder: RunFolder, config: JobConfig, takers: Sequence[JobConfig] | None = None
) -> RunFolder | None:
    """The folder of the same run in another sweep, if it is done there or lacks evaluations alone.

    The same: of the same name, which ends in the identity. What the ``takers`` read of it has to be there: they
    wait for it and are not done. None where they are not known: then all that can be read.
    """
    here = Path(os.path.abspath(folder))
    sweeps = sorted(sweep for sweep in here.parent.parent.glob("*") if sweep != here.parent)
    others = [RunFolder(sweep / config.name) for sweep in sweeps if (sweep / config.name).exists()]
    fit = [other for other in others if not other.origin and _stands_for(other, config, takers)]
    return min(fit, key=lambda other: state_at_rest(other, config).name != "done", default=None)


def _stands_for(other: RunFolder, config: JobConfig, takers: Sequence[JobConfig] | None) -> bool:
    if isinstance(config, RunConfig):  # whose evaluation, be it a job of its own, needs the weights
        config = replace(config, launch=replace(config.launch, evaluate={}))
    state = state_at_rest(other, config).name
    if state == "unreadable" or not has_record(other):
        return False
    if isinstance(config, FeatureConfig):
        return arrays_of(other) is not None
    if isinstance(config, ChoiceConfig):
        return True
    needed: list[Path] = []
    if state != "done" or takers is None or any(isinstance(taker, FeatureConfig) for taker in takers):
        needed.append(other.final_weights)
    if isinstance(config, RunConfig) and any(
        not isinstance(taker, FeatureConfig | EvaluationConfig) for taker in takers or ()
    ):
        needed.append(other.coreset)
    return all(path.exists() for path in needed)
