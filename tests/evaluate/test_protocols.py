"""Protocols: whoever changes a constant, a default or a result of a task gives its protocol a new version.

The golden file holds, for every protocol there ever was, its constants, the defaults of its options and, for
tasks that run on a table of features, what it gives on a small problem. A changed task fails here until its
``protocol`` says another version; then run this file with ``SCAN_BENCH_ACCEPT=1``, which adds the new entry and
never touches an old one, and read the difference before it is committed. A metric that a protocol gains is a row
that its entry gains.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import inspect
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from task_stubs import FixedSource, TableEncoder

from benchmark import plugins
from benchmark.evaluate.task import Task
from benchmark.evaluate.tasks.retrieval import Retrieval

GOLDEN = Path(__file__).parent / "golden" / "protocols.json"
TASKS = plugins.names("benchmark.evaluate.tasks")
NO_RESULT = {
    "BLOCK_ELEMENTS",
    "QUERIES",
    "BANK",
    "ELEMENTS",
    "EVAL_BATCH",
    "CLASSES_AT_ONCE",
    "COLUMNS_AT_ONCE",
    "GPU_BLOCK_ELEMENTS",
    "GPU_FROM",
}
"""Constants of memory and place alone."""
NO_RESULT |= {"RECIPES", "LOGISTIC", "SOLVERS", "USED_BY", "CHANGEABLE", "LATER_OPTION"}
"""What there is to choose from: the choice shows in the protocol."""
VARIANTS = [
    (name, number)
    for name in TASKS
    for number in range(len(plugins.load("benchmark.evaluate.tasks", name, Task, name).published()))  # type: ignore[type-abstract]
]
"""Tasks, each with its recipes."""


def told(value: Any) -> Any:
    """A constant as JSON; arrays and what else is large by its hash."""
    if isinstance(value, np.ndarray):
        text = " ".join(f"{number:.9g}" for number in value.ravel().tolist())  # libraries differ in the last bits
        return f"{value.dtype} {value.shape} {hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if isinstance(value, tuple | list):
        return [told(item) for item in value]
    if isinstance(value, dict):
        return {str(key): told(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


NO_PART = ("benchmark.evaluate.task", "benchmark.evaluate.probes.__init__")
"""The interface and the tasks: a task is made of what else it imports of its package."""


def made_of(name: str) -> dict[str, ModuleType]:
    """A task's module and the hidden ones of its package that it imports, directly or not."""
    found = {name: importlib.import_module(name)}
    for node in ast.walk(ast.parse(inspect.getsource(found[name]))):
        if not isinstance(node, ast.ImportFrom):
            continue
        whole = node.module in ("benchmark.evaluate", "benchmark.evaluate.probes")
        modules = [f"{node.module}.{alias.name}" for alias in node.names] if whole else [str(node.module)]
        for module in modules:
            if module.startswith("benchmark.evaluate.") and not module.startswith(NO_PART):
                found |= made_of(module)
    return found


def constants_of(name: str, protocol: str) -> dict[str, Any]:
    """Those of a recipe's own, ``probes.sgd`` or ``WISE_FT``, count only in a protocol that names it."""
    found = {}
    for path, module in made_of(f"benchmark.evaluate.tasks.{name}").items():
        own = path.rpartition(".probes.")[2]
        if own in ("adamw", "sgd") and own not in protocol:
            continue
        for key, value in vars(module).items():
            if dataclasses.is_dataclass(value) and key.lower() not in protocol:
                continue
            if key.isupper() and not key.startswith("_") and key not in NO_RESULT and not inspect.isclass(value):
                found[key] = told(value)
    return found


def options_of(cls: type[Task]) -> dict[str, Any]:
    found = {}
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        found[f.name] = "required" if default is dataclasses.MISSING else told(default)
    return found


def protocols_of(task: Task) -> list[str]:
    """The task's own, and InfoNCE's where it has one."""
    return [task.protocol, *([task.infonce_protocol] if isinstance(task, Retrieval) else [])]


def small_problem(task: Task, protocol: str) -> list[Any] | None:
    """A protocol's rows on features drawn once and for all; None if the task needs more than features."""
    rng = np.random.default_rng(7)
    labels = np.arange(160) % 8
    images = (rng.standard_normal((8, 6))[labels] + 1.2 * rng.standard_normal((160, 6))).astype(np.float32)
    names, captions = [f"c{i}" for i in range(8)], [f"t{i}" for i in range(90)]
    texts = {text: rng.standard_normal(6) for text in [*names, *(f"photo of {n}" for n in names)]}
    texts |= {text: images[i % 60] + rng.standard_normal(6) for i, text in enumerate(captions)}
    source = FixedSource(
        train_labels=labels[:96].tolist(),
        test_labels=labels[96:].tolist(),
        class_names=names,
        captions=captions,
        image_of_caption=[i % 60 for i in range(90)],
        num_images=60,
    )
    if hasattr(task, "shots"):
        task = dataclasses.replace(task, shots=[1, 2, 4, 8])  # type: ignore[type-var]  # of 12 images a class
    object.__setattr__(task, "source", lambda: source)
    try:
        rows = task.run(TableEncoder(images, texts, logit_scale=10.0))  # type: ignore[arg-type]
    except AttributeError:  # it asks the encoder for more than features
        return None
    return [
        [row.metric, round(row.value, 4), row.n, *(round(end, 4) for end in row.ci95)]
        for row in rows
        if row.protocol == protocol
    ]


def described(name: str, number: int = 0, which: int = 0) -> tuple[str, dict[str, Any]]:
    cls = plugins.load("benchmark.evaluate.tasks", name, Task, name)  # type: ignore[type-abstract]
    task = cls.published()[number]
    protocol = protocols_of(task)[which]
    found = {
        "constants": constants_of(name, protocol),
        "options": options_of(cls),
        "small_problem": small_problem(task, protocol),
    }
    return protocol, json.loads(json.dumps(found))


@pytest.mark.parametrize(("name", "number", "which"), [*((*one, 0) for one in VARIANTS), ("retrieval", 0, 1)])
def test_whoever_changes_a_task_changes_its_protocol(name: str, number: int, which: int) -> None:
    protocol, found = described(name, number, which)
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    if protocol not in golden and os.environ.get("SCAN_BENCH_ACCEPT"):
        golden[protocol] = found
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert protocol in golden, f"{protocol} is new: run this file with SCAN_BENCH_ACCEPT=1 and read what it adds"
    for part in (
        "constants",
        "options",
    ):  # later ones leave a protocol as it was: they tell themselves in its name
        known = golden[protocol][part]
        found[part] = {key: value for key, value in found[part].items() if key in known}
    for part in found:
        assert found[part] == golden[protocol][part], (
            f"{name}: its {part} changed: give its protocol a new version"
        )


def test_a_changed_constant_default_or_rule_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.evaluate import scores
    from benchmark.evaluate.tasks import knn

    before = described("knn")
    monkeypatch.setattr(knn, "TEMPERATURE", 0.1)
    assert described("knn") != before
    monkeypatch.undo()
    monkeypatch.setattr(scores, "DECIMALS", 3)
    assert described("knn")[1]["constants"] != before[1]["constants"]
    monkeypatch.undo()
    original = knn.predict
    monkeypatch.setattr(knn, "predict", lambda q, bank, labels, *_: original(q, bank, labels, 1))
    assert described("knn")[1]["small_problem"] != before[1]["small_problem"]


@pytest.mark.parametrize(("name", "number"), VARIANTS)
def test_a_protocol_has_the_tasks_name_and_a_version(name: str, number: int) -> None:
    cls = plugins.load("benchmark.evaluate.tasks", name, Task, name)  # type: ignore[type-abstract]
    first, *_, last = cls.published()[number].protocol.split(".")
    assert first == name
    assert last.startswith("v")
    assert last[1:].isdigit()
