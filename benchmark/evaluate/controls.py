"""Controls of probes: what raw pixels give, and each model with its initial weights, on the runs' data sets.

A probe of a trained network tells of its training only by what it has above these two. They are computed once for
a folder of results, into ``controls/NAME/evaluation.json``, where the report finds them.
Letters in shapes: n images.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from benchmark.config.run import Choice
from benchmark.evaluate.task import Task, make_task
from benchmark.evaluate.tasks.few_shot import FewShot
from benchmark.evaluate.tasks.knn import Knn
from benchmark.evaluate.tasks.linear_probe import LinearProbe
from benchmark.models.frameworks import make_objective
from benchmark.models.objective import Objective
from benchmark.options import ConfigError, build, plain
from benchmark.runs.folder import CONFIG_FILE, CONTROLS, EVALUATION_FILE, RunFolder
from benchmark.runs.record import CONTROL_KINDS, read_evaluation, read_record

PIXELS, UNTRAINED = CONTROL_KINDS
SIDE = 32
"""Pixels a side that images are squeezed to."""


class PixelEncoder:
    """Images of ``SIDE`` x ``SIDE`` as features: bicubic, RGB from -1 to 1, in every layer."""

    has_text = False
    logit_scale = None

    def encode_images(self, images: Sequence[Image.Image], layer: str = "joint") -> np.ndarray:
        """float32 [n, 3 SIDE SIDE]."""
        rows = [
            np.asarray(i.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)).ravel() for i in images
        ]
        return np.stack(rows).astype(np.float32) / 127.5 - 1

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        raise AssertionError("pixels read no text")

    def trainable(self, layer: str = "joint") -> Any:
        raise AssertionError("pixels have no network")

    def fingerprint(self) -> str:
        return f"pixels {SIDE} pillow {PIL.__version__}"


@dataclass(frozen=True)
class Control:
    """One control with the probes that it is asked for."""

    out: Path
    """Its ``evaluation.json``."""
    told: Mapping[str, Any]
    """``kind``; of an untrained model also ``framework``, ``model`` and ``seed``."""
    choices: Sequence[Choice]
    make: Callable[[], Objective] | None
    """The untrained model; None for pixels."""

    @property
    def model(self) -> str:
        return str(self.told["model"]["name"]) if self.make else f"{SIDE} x {SIDE} pixels"

    def missing(self) -> list[Choice]:
        """The probes that the file does not hold yet, and those it skipped. Raises RecordError."""
        if not self.out.exists():
            return list(self.choices)
        old = read_evaluation(self.out)
        skipped = [(entry["task"], entry.get("options")) for entry in old["evaluation_skipped"]]
        done = [one for one in old["evaluate"] if (one["name"], one["options"]) not in skipped]
        return [choice for choice in self.choices if plain(asdict(choice)) not in done]


def has_controls(task: Task) -> bool:
    """Whether it fits a classifier to frozen features, which pixels are too."""
    return isinstance(task, Knn | FewShot) or (isinstance(task, LinearProbe) and task.recipe != "moco")


def controls_of(place: Path, asked: Sequence[Choice] = ()) -> list[Control]:
    """Controls of the runs with a record in a folder of results, of a sweep or of one run; raw pixels first.

    ``asked`` is measured in place of the runs' own probes. Raises ConfigError if there is no such run or no probe,
    RecordError for a record that cannot be read.
    """
    results, folders = _runs(place)
    told: dict[str, tuple[dict[str, Any], list[Choice]]] = {}
    for folder in folders:
        record = read_record(folder.record)
        probes = asked or [
            build(Choice, one, f"{folder.record}: evaluate") for one in record["config"]["evaluate"]
        ]
        probes = [choice for choice in probes if has_controls(make_task(choice, f"{folder.record}: evaluate"))]
        model = {"framework": record["framework"], "model": record["config"]["model"], "seed": record["seed"]}
        for one in ({"kind": PIXELS}, {"kind": UNTRAINED, **model}):
            _, known = told.setdefault(json.dumps(one, sort_keys=True), (one, []))
            known += [choice for choice in probes if choice not in known]
    found = [_control(results, facts, choices) for facts, choices in told.values() if choices]
    if not found:
        raise ConfigError(
            f"{place}: no finished run with a probe that has controls (knn, few_shot, linear_probe but by moco's"
            " recipe); ask for one with --tasks"
        )
    return found


def _runs(place: Path) -> tuple[Path, list[RunFolder]]:
    """The folder of results, and those of the runs that have a record."""
    if (place / CONFIG_FILE).exists():
        results, folders = place.absolute().parent.parent, [place]
    elif any(place.glob(f"*/{CONFIG_FILE}")):
        results, folders = place.absolute().parent, sorted(path.parent for path in place.glob(f"*/{CONFIG_FILE}"))
    else:
        results, folders = place, sorted(path.parent for path in place.glob(f"*/*/{CONFIG_FILE}"))
    return results, [run for run in map(RunFolder, folders) if run.record.exists()]


def _control(results: Path, told: Mapping[str, Any], choices: Sequence[Choice]) -> Control:
    name, make = f"{PIXELS}-{SIDE}", None
    if told["kind"] == UNTRAINED:
        model = build(Choice, told["model"], "model")
        make = partial(make_objective, told["framework"], model, told["seed"])
        code = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:6]
        name = f"{UNTRAINED}-{told['framework']}-{model.name}-s{told['seed']}-{code}"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)
    return Control(results / CONTROLS / name / EVALUATION_FILE, told, choices, make)
