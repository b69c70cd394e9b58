"""What a task is measured on: images that cannot be decoded, sets that tell nothing, further sets of a probe."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from task_stubs import FixedSource
from tiny import TINY_CLIP, TINY_MOCO, clip_grid

from benchmark.config.run import Choice, resolved
from benchmark.evaluate.controls import PixelEncoder
from benchmark.evaluate.probes.logistic import fitter
from benchmark.evaluate.run import Outcome, evaluate
from benchmark.evaluate.task import Task, make_task
from benchmark.job import process
from benchmark.models.frameworks import make_objective
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.pool.source import Source
from benchmark.runs.record import read_record

NO_IMAGE = b"no picture"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of 60 pictures to train on and 60 to test on, told apart by their colour."""
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SCAN_BENCH_DATA", str(tmp_path / "data"))
    fill(tmp_path / "data" / "two" / "train", ("dark", "light"), 60, 0)
    fill(tmp_path / "data" / "two" / "test", ("dark", "light"), 60, 1)
    return tmp_path / "data" / "two"


def fill(folder: Path, names: Sequence[str], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 120, (8, 8, 3)) + (120 if name == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i:02d}.png")


def asked(task: str, **options: Any) -> Choice:
    return Choice(name=task, options={"dataset": {"image_folder": {"name": "two"}}, **options})


def measured(*choices: Choice, cache: Path | None = None, framework: str = "clip") -> Outcome:
    model = Choice(name="tiny", options=(TINY_CLIP if framework == "clip" else TINY_MOCO)["tiny"])
    return evaluate(choices, make_objective(framework, model, 0).encoder(), cache, lambda *_: None)


TASKS = {
    "zero_shot": (asked("zero_shot"), "clip", 1),
    "knn": (asked("knn"), "clip", 2),
    "linear_probe": (asked("linear_probe"), "moco", 2),
    "adamw": (asked("linear_probe", recipe="clip_benchmark", epochs=1), "clip", 2),
    "few_shot": (asked("few_shot", shots=[1, 2], draws=1), "clip", 2),
    "moco": (asked("linear_probe", recipe="moco", epochs=1, flip=False), "moco", 1),
    "finetune": (asked("finetune", recipe="wise_ft", epochs=1, batch_size=16, warmup_steps=1), "clip", 1),
    "deit": (asked("finetune", recipe="deit_transfer", epochs=1, batch_size=32, warmup_epochs=0), "moco", 1),
}


@pytest.mark.parametrize("name", TASKS)
def test_an_image_that_cannot_be_decoded_is_left_out_counted_and_named(
    name: str, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    choice, framework, sets = TASKS[name]
    (root / "test" / "dark" / "07.png").write_bytes(NO_IMAGE)
    (root / "train" / "light" / "11.png").write_bytes(NO_IMAGE)
    found = measured(choice, framework=framework)
    assert not found.skipped
    assert {row["n"] for row in found.rows} == {119}
    assert {row["left_out"] for row in found.rows} == {sets}
    assert all(len(one.items) == 119 for one in found.predictions)
    assert "test/dark/07.png" in caplog.text
    assert ("train/light/11.png" in caplog.text) == (name != "zero_shot")


def test_raw_pixels_leave_the_same_images_out(root: Path) -> None:
    (root / "test" / "dark" / "07.png").write_bytes(NO_IMAGE)
    (root / "train" / "light" / "11.png").write_bytes(NO_IMAGE)
    (row,) = evaluate([asked("knn")], PixelEncoder(), None, lambda *_: None).rows
    assert (row["n"], row["left_out"], row["value"]) == (119, 2, 1.0)


def test_more_than_a_few_images_that_cannot_be_decoded_cost_this_task_alone(root: Path) -> None:
    for i in (7, 8):
        (root / "test" / "dark" / f"{i:02d}.png").write_bytes(NO_IMAGE)
    found = measured(asked("knn"), Choice(name="knn", options={"dataset": "digits"}))
    (skipped,) = found.skipped
    assert re.search(
        r"2 of 120 images cannot be decoded, more than 1%, the first sample 7 \(.*07\.png\)", skipped["reason"]
    )
    assert [row["dataset"] for row in found.rows] == ["digits"]
    assert "left_out" not in found.rows[0]


def test_features_that_are_kept_know_what_could_not_be_decoded_until_it_can(root: Path, tmp_path: Path) -> None:
    broken = root / "test" / "dark" / "07.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2] + bytes(64) + whole[len(whole) // 2 + 64 :])
    first = measured(asked("zero_shot"), cache=tmp_path / "features")
    again = measured(asked("zero_shot"), cache=tmp_path / "features")
    assert first.rows == again.rows
    assert first.rows[0]["left_out"] == 1
    broken.write_bytes(whole)  # its length and last bytes are as they were
    after = measured(asked("zero_shot"), cache=tmp_path / "features")
    assert after.rows[0]["n"] == 120
    assert "left_out" not in after.rows[0]


def test_retrieval_leaves_out_the_captions_of_an_image_that_cannot_be_decoded(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    class Pairs(FixedSource):
        def pairs(self) -> Any:
            images = Source.test_set(source).images
            return type(super().pairs())(
                "toy", images, [f"a {i}" for i in range(120)], np.arange(120)[::-1].copy()
            )

    source = make_task(asked("knn"), "x").source()
    monkeypatch.setattr(Task, "source", lambda self: Pairs())
    (root / "test" / "dark" / "00.png").write_bytes(NO_IMAGE)
    found = measured(Choice(name="retrieval", options={"dataset": "shapes"}))
    assert {row["n"] for row in found.rows} == {119}
    assert {row["left_out"] for row in found.rows} == {1}


@pytest.mark.parametrize(
    ("task", "source", "reason"),
    [
        ("zero_shot", FixedSource(test_labels=[0, 0], class_names=["cat"]), "one class alone"),
        ("zero_shot", FixedSource(test_labels=[], class_names=["cat", "dog"]), "its test split holds no images"),
        (
            "knn",
            FixedSource(train_labels=[1, 1], test_labels=[0, 1], class_names=["a", "b"]),
            "all training images are",
        ),
        (
            "linear_probe",
            FixedSource(train_labels=[1, 0], test_labels=[0, 1], class_names=["a", "b"]),
            "no class has two",
        ),
        (
            "few_shot",
            FixedSource(train_labels=[1, 0], test_labels=[0, 1], class_names=["a", "b"]),
            "fewer than 2 shots",
        ),
        (
            "retrieval",
            FixedSource(num_images=1, captions=["x"], image_of_caption=[0]),
            "captions of fewer than two",
        ),
        (
            "retrieval",
            FixedSource(num_images=2, captions=["x"], image_of_caption=[0]),
            "captions of fewer than two",
        ),
    ],
)
def test_a_task_that_tells_no_models_apart_is_skipped_with_its_reason_and_costs_no_other(
    task: str, source: FixedSource, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Task.source
    monkeypatch.setattr(Task, "source", lambda self: source if self.dataset == "emoji" else original(self))
    found = measured(
        Choice(name=task, options={"dataset": "emoji"} | ({"shots": [2]} if task == "few_shot" else {})),
        Choice(name="knn", options={"dataset": "digits"}),
    )
    (skipped,) = found.skipped
    assert reason in skipped["reason"]
    assert [row["dataset"] for row in found.rows] == ["digits"]


def test_what_will_be_skipped_is_told_before_training(
    planned: Callable[..., list[PlannedRun]], root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = {"few_shot": {"dataset": {"image_folder": {"name": "two"}}, "shots": [61]}}
    (run,) = planned(clip_grid(train={"epochs": 1}, evaluate=[few]))
    assert process.run(run.folder) == "done"
    (skipped,) = read_record(run.folder / "record.json")["evaluation_skipped"]
    assert "class 'dark' has 60 training images, fewer than 61 shots" in skipped["reason"]
    told = [message for message in caplog.messages if "fewer than 61 shots" in message]
    assert "few_shot on image_folder will be skipped" in told[0]


@pytest.mark.parametrize("name", ["linear_probe", "torch", "adamw", "moco"])
def test_a_probe_is_measured_on_further_sets_among_their_classes(name: str, root: Path, tmp_path: Path) -> None:
    more = tmp_path / "data"
    fill(root / "train", ["odd"], 60, 2)
    fill(root / "test", ["odd"], 60, 3)
    fill(more / "some" / "test", ("dark", "light"), 30, 4)
    fill(more / "strange" / "test", ("dark", "blue"), 30, 5)
    sets = [{"image_folder": {"name": one}} for one in ("some", "nowhere", "strange")]
    if name == "torch":
        choice, framework = asked("linear_probe", solver="torch"), "clip"
    else:
        choice, framework, _ = TASKS[name]
    alone = measured(choice, framework=framework)
    found = measured(Choice(name="linear_probe", options={**choice.options, "test_on": sets}), framework=framework)
    assert found.rows[:2] == alone.rows
    assert [(row["dataset"], row["metric"], row["n"]) for row in found.rows[2:]] == [
        ("some", "top1", 60),
        ("some", "mean_per_class", 60),
    ]
    assert found.rows[2]["value"] >= 0.45  # chance among the set's own two classes, not among three
    absent, strange = found.skipped
    assert (absent["dataset"], absent["data_found"]) == (sets[1], False)
    assert (strange["dataset"], strange["data_found"]) == (sets[2], True)
    assert "strange has a class 'blue', which two has 0 times" in strange["reason"]


@pytest.mark.parametrize("solver", ["sklearn", "torch"])
@pytest.mark.parametrize("classes", [[0, 2], [0, 2, 5]])
def test_logits_of_some_classes_are_those_of_the_whole_classifier(solver: str, classes: list[int]) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(classes, 20)
    features = rng.normal(size=(len(labels), 4)) + labels[:, None]
    probe = fitter(features, labels, solver=solver, standardise=True)(1.0)
    assert (np.array(classes)[probe.predict(features, np.array(classes))] == probe.predict(features)).all()
    swapped = np.array(classes[1::-1])
    (binary,) = {tuple(swapped[probe.predict(features[:40], swapped)] == labels[:40])}
    assert np.mean(binary) > 0.8
    assert (probe.predict(features, np.array([7, 0])) == 1).all()  # a class without images is never the nearest


def test_an_evaluation_of_a_probe_without_further_sets_is_told_as_before() -> None:
    told = resolved(
        "linear_probe", make_task(Choice(name="linear_probe", options={"dataset": "digits"}), "x"), as_before=True
    )
    assert told.options == {"dataset": "digits"}
    with pytest.raises(ConfigError, match="test_on must be sets that differ"):
        make_task(Choice(name="linear_probe", options={"dataset": "digits", "test_on": ["digits"]}), "x")
    with pytest.raises(ConfigError, match=r"test_on\[0\].*did you mean 'digits'"):
        make_task(Choice(name="linear_probe", options={"dataset": "emoji", "test_on": ["digit"]}), "x")
