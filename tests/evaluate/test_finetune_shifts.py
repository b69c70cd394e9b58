"""A fine-tuned model on further test sets: among a set's own classes, and an absent set costs no other."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY_CLIP, clip_grid

from benchmark.config.run import Choice, resolved
from benchmark.evaluate import run as evaluation
from benchmark.evaluate.run import Outcome, evaluate
from benchmark.evaluate.task import make_task
from benchmark.evaluate.tasks.finetune import Finetune
from benchmark.job import process
from benchmark.models.clip import objective as clip
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.pool.sources import _published as published
from benchmark.pool.sources.digits import Digits
from benchmark.pool.sources.imagenet import ImageNet
from benchmark.pool.sources.imagenet_a import ImageNetA
from benchmark.pool.sources.imagenet_r import ImageNetR
from benchmark.runs.record import read_record
from benchmark.runs.state import state_of

SETS: list[Any] = ["imagenet_v2", "imagenet_r", "imagenet_a"]
OPTIONS: dict[str, Any] = {
    "dataset": "imagenet", "recipe": "wise_ft", "epochs": 2, "batch_size": 16, "lr": 3e-3, "warmup_steps": 2,
    "test_on": SETS,
}  # fmt: skip
MISSILES = [w for w in published.wnids() if published.names_of_wnids([w]) == ["missile"]]
"""Two classes of ImageNet have this name; ImageNet-R holds one of them."""
KNOWN = [*published.wnids()[:5], *MISSILES, *published.wnids()[-5:]]


def fill(folder: Path, wnids: Sequence[str], images: int, seed: int) -> None:
    """Noisy pictures, each class about a colour of its own."""
    rng = np.random.default_rng(seed)
    for wnid in wnids:
        (folder / wnid).mkdir(parents=True)
        colour = np.random.default_rng(KNOWN.index(wnid)).integers(0, 256, (1, 1, 3))
        for i in range(images):
            pixels = np.clip(colour + rng.normal(0, 60, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / wnid / f"{i}.png")


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """ImageNet of 12 classes and two sets of some of them, in the layouts of their archives; no ImageNet-V2."""
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SCAN_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(ImageNet, "_check_whole", lambda *_: None)
    held = {"imagenet_r": [*KNOWN[1:4], MISSILES[1]], "imagenet_a": [KNOWN[0], *KNOWN[-3:]]}
    for split, images in (("train", 4), ("val", 3)):
        fill(tmp_path / "data" / "imagenet" / split, KNOWN, images, images)
    for number, (cls, name) in enumerate([(ImageNetR, "imagenet_r"), (ImageNetA, "imagenet_a")]):
        fill(tmp_path / "data" / name, sorted(held[name]), 6, number)
        monkeypatch.setattr(cls, "num_images", 24)
        monkeypatch.setattr(cls, "_wnids", lambda self: sorted(held[self.data_set]))
    return held


def encoder() -> Any:
    return clip.make(Choice(name="tiny", options=TINY_CLIP["tiny"]), 0).encoder()


def measured(options: dict[str, Any]) -> Outcome:
    return evaluate([Choice(name="finetune", options=options)], encoder(), None, lambda *_: None)


@pytest.mark.slow
def test_a_set_of_some_classes_is_measured_by_the_logits_of_these(sets: dict[str, list[str]]) -> None:
    found = measured(OPTIONS)
    hits = {(one.dataset, one.metric): one for one in found.predictions}
    task, source, own = Finetune(**OPTIONS), ImageNet(), encoder()
    train, tower = source.train_set(), own.trainable("joint")
    model = task.train(tower, task._head(own, tower, train), train).eval()
    wnids = sorted(KNOWN)
    differ = 0
    for cls, name in ((ImageNetR, "imagenet_r"), (ImageNetA, "imagenet_a")):
        test = cls().labelled("test")
        with torch.inference_mode():
            logits = model(torch.stack([tower.eval_transform(image.convert("RGB")) for image in test.images]))
        rows = sorted(sets[name])
        among = np.array([[float(one[wnids.index(w)]) for w in rows] for one in logits]).argmax(axis=1)
        assert hits[name, "top1"].items.tolist() == (among == test.labels).tolist()
        assert hits[name, "top1"].data == test.fingerprint != hits["imagenet", "top1"].data
        differ += sum(wnids[k] not in rows for k in logits.argmax(dim=1).tolist())
    assert differ > 0, "all logits would have told the same"
    told = [(row["dataset"], row["metric"], row["n"], row["protocol"]) for row in found.rows]
    protocol = "finetune.wise_ft_epochs2_batch_size16_lr0.003_warmup_steps2.v1"
    assert told == [
        (name, metric, n, protocol)
        for name, n in (("imagenet", 36), ("imagenet_r", 24), ("imagenet_a", 24))
        for metric in ("top1", "mean_per_class")
    ]


@pytest.mark.slow
def test_a_set_that_is_absent_or_damaged_is_skipped_with_the_reason_and_costs_no_other(
    sets: dict[str, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "data" / "imagenet_a" / KNOWN[0] / "0.png").write_bytes(b"no picture")
    found = measured(OPTIONS)
    assert {row["dataset"] for row in found.rows} == {"imagenet", "imagenet_r"}
    absent, damaged = found.skipped
    assert (absent["dataset"], absent["data_found"]) == ("imagenet_v2", False)
    assert "docs/data.md says how to get ImageNet-V2" in absent["reason"]
    assert (damaged["dataset"], damaged["data_found"]) == ("imagenet_a", True)
    assert "0.png" in damaged["reason"]
    assert absent["options"] == damaged["options"] == OPTIONS
    alone = measured({key: value for key, value in OPTIONS.items() if key != "test_on"})
    assert found.rows[:2] == alone.rows


@pytest.mark.slow
def test_a_set_that_comes_later_is_made_up_for(
    planned: Callable[..., list[PlannedRun]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"image_folder": {"name": "few", "root": str(tmp_path / "few")}}
    options = {"dataset": {"digits": {"image_size": 16}}, "recipe": "wise_ft", "epochs": 1, "warmup_steps": 1}
    (run,) = planned(clip_grid(train={"epochs": 1}, evaluate=[{"finetune": {**options, "test_on": [few]}}]))
    assert process.run(run.folder) == "done"
    path = run.folder / "record.json"
    before = read_record(path)
    assert [entry["dataset"] for entry in before["evaluation_skipped"]] == [few]
    assert state_of(run.folder, run.config).words == "done (incomplete: 1 task skipped)"
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate", lambda *_: pytest.fail("fine-tuned again while the set is absent"))
        assert process.run(run.folder) == "done"

    test = Digits(image_size=16).labelled("test")
    for i in range(40):
        folder = tmp_path / "few" / "test" / test.class_names[test.labels[i]]
        folder.mkdir(parents=True, exist_ok=True)
        test.images[i].save(folder / f"{i}.png")
    assert process.run(run.folder) == "done"
    after = read_record(path)
    assert after["evaluation_skipped"] == []
    assert after["metrics"][:2] == before["metrics"]
    assert [(row["dataset"], row["n"]) for row in after["metrics"][2:]] == [("few", 40)] * 2


def test_a_set_of_classes_that_were_not_trained_on_is_skipped_and_told_before_any_training(
    sets: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets["imagenet_a"].remove(KNOWN[0])
    sets["imagenet_a"].append(published.wnids()[500])
    (tmp_path / "data" / "imagenet_a" / KNOWN[0]).rename(tmp_path / "data" / "imagenet_a" / published.wnids()[500])
    order: list[str] = []
    original = Finetune.train
    monkeypatch.setattr(Finetune, "train", lambda *words: order.append("trained") or original(*words))
    monkeypatch.setattr(evaluation.logger, "warning", lambda text, *words: order.append(text % words))
    found = measured(OPTIONS)
    assert re.search(r"imagenet_a has a class 'n[0-9]+', which imagenet has 0 times", order[1])
    assert order[2:] == ["trained"]
    assert {row["dataset"] for row in found.rows} == {"imagenet", "imagenet_r"}


def test_an_evaluation_without_further_sets_is_told_as_before_they_could_be_asked_for() -> None:
    plain = {"dataset": "imagenet", "recipe": "wise_ft"}
    told = resolved("finetune", make_task(Choice(name="finetune", options=plain), "x"), as_before=True).options
    assert "test_on" not in told
    assert make_task(Choice(name="finetune", options={**plain, "test_on": SETS}), "x").data_sets == {
        "dataset": "imagenet",
        "test_on[0]": "imagenet_v2",
        "test_on[1]": "imagenet_r",
        "test_on[2]": "imagenet_a",
    }


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["imagenet_v3"], r"test_on\[0\].*did you mean 'imagenet_v2'"),
        (["imagenet_r", {"imagenet_v2": {"variant": "top"}}], r"test_on\[1\].*variant"),
        (["imagenet_r", "imagenet_r"], "test_on must be sets that differ"),
        (["imagenet"], "test_on must be sets that differ, and not the data set itself, got imagenet"),
    ],
)
def test_a_wrong_set_is_told_when_the_sweep_is_planned(asked: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_task(Choice(name="finetune", options={**OPTIONS, "test_on": asked}), "evaluate")
