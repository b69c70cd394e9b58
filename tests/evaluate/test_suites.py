"""Published suites: what a set is judged by, in clip_benchmark's own shards and with its own functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import webdataset
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
from PIL import Image
from sklearn.metrics import f1_score
from tiny import TINY_CLIP, clip_grid
from torch.utils.data import DataLoader

from benchmark.config import suites
from benchmark.config.run import Choice
from benchmark.config.sweepfile import read_sweep
from benchmark.evaluate.command import parse_tasks
from benchmark.evaluate.judged import f1_macro
from benchmark.evaluate.run import Outcome, evaluate
from benchmark.models.clip.encoder import ClipEncoder
from benchmark.options import ConfigError

sys.modules.setdefault(
    "requests", ModuleType("requests")
)  # clip_benchmark downloads with it, but does not ask for it
from clip_benchmark import webdataset_builder  # noqa: E402
from clip_benchmark.datasets.builder import build_wds_dataset, image_captions_collate_fn  # noqa: E402

NAMES = [f"thing {i}" for i in range(7)]


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    """A small CLIP with fresh weights, made larger so that its features differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(**TINY_CLIP["tiny"])
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    return ClipEncoder(model.eval(), open_clip.image_transform(16, is_train=False), tokenizer, 32)


def pictures(count: int) -> list[bytes]:
    pixels = np.random.default_rng(5).integers(0, 256, size=(count, 4, 4, 3)).astype(np.uint8)
    told = webdataset_builder.PIL_to_bytes("webp")
    return [told(Image.fromarray(p).resize((20, 20), Image.Resampling.NEAREST)) for p in pixels]


class Items(list):  # type: ignore[type-arg]
    """What clip_benchmark's exporter takes: pairs of image and label, with names and prompts."""

    classes = NAMES
    templates = ("a photo of a {c}.", "{c}")


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a set with clip_benchmark's exporter, three shards of it."""
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.utils.data, "DataLoader", lambda dataset, **_: dataset)

    def write(name: str, targets: Sequence[Any], retrieval: bool = False, multilabel: bool = False) -> str:
        items = Items(zip(pictures(len(targets)), targets, strict=True))
        home, count = str(tmp_path / f"wds_{name.replace('/', '-')}_test"), -(-len(targets) // 3)
        if retrieval:
            webdataset_builder.convert_retrieval_dataset(items, "test", home, max_count=count, verbose=False)
        else:
            webdataset_builder.convert_dataset(
                items, "test", home, max_count=count, multilabel=multilabel, verbose=False
            )
        return home

    return write


def ours(encoder: ClipEncoder, task: str, name: str, root: Path) -> dict[str, float]:
    choice = Choice(name=task, options={"dataset": {"clip_benchmark": {"name": name, "root": str(root)}}})
    found = evaluate([choice], encoder, None, lambda *_: None)
    assert not found.skipped, found.skipped
    assert all(row["ci95"][0] <= row["value"] <= row["ci95"][1] for row in found.rows)
    return {row["metric"]: row["value"] for row in found.rows}


def theirs(encoder: ClipEncoder, home: str) -> dict[str, float]:
    dataset = build_wds_dataset("toy", encoder.image_transform, data_dir=home)
    loader = DataLoader(dataset.batched(64), batch_size=None)
    prompts = (dataset.classes, dataset.templates)
    loader.dataset.classes = dataset.classes
    return zeroshot_classification.evaluate(encoder.model, loader, encoder.tokenizer, *prompts, "cpu", amp=False)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore")
def test_a_set_that_clip_benchmark_wrote_has_the_values_it_counts(
    encoder: ClipEncoder, export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.random.default_rng(6).integers(0, 7, size=150).tolist()
    home = export("vtab/pets", labels)
    monkeypatch.undo()
    expected, found = theirs(encoder, home), ours(encoder, "zero_shot", "vtab/pets", tmp_path)
    assert (found["top1"], found["top5"]) == (expected["acc1"], expected["acc5"])
    assert found["mean_per_class"] == pytest.approx(expected["mean_per_class_recall"], abs=1e-12)
    assert 0 < found["top1"] < 1


@pytest.mark.filterwarnings("ignore")
def test_average_precision_is_clip_benchmarks(
    encoder: ClipEncoder, export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = (np.random.default_rng(7).random((120, 7)) < [0.5, 0.3, 0.2, 0.2, 0.1, 0.1, 0.0]).astype(np.int64)
    home = export("voc2007_multilabel", list(several), multilabel=True)
    monkeypatch.undo()
    expected, found = theirs(encoder, home), ours(encoder, "zero_shot", "voc2007_multilabel", tmp_path)
    assert found == {"mean_average_precision": pytest.approx(expected["mean_average_precision"], abs=1e-6)}


@pytest.mark.filterwarnings("ignore")
def test_captions_that_clip_benchmark_wrote_are_retrieved_as_it_counts(
    encoder: ClipEncoder, export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = [[f"thing {i}", *(f"a {j} of {i}" for j in range(i % 4))] for i in range(40)]
    home = export("flickr30k", captions, retrieval=True)
    monkeypatch.undo()
    dataset = build_wds_dataset("toy", encoder.image_transform, data_dir=home)
    loader = DataLoader(dataset, batch_size=16, collate_fn=image_captions_collate_fn)
    expected = zeroshot_retrieval.evaluate(
        encoder.model, loader, encoder.tokenizer, "cpu", amp=False, recall_k_list=[1, 5]
    )
    found = ours(encoder, "retrieval", "flickr30k", tmp_path)
    for k in (1, 5):
        assert found[f"image_to_text_r{k}"] == pytest.approx(expected[f"text_retrieval_recall@{k}"], abs=1e-7)
        assert found[f"text_to_image_r{k}"] == pytest.approx(expected[f"image_retrieval_recall@{k}"], abs=1e-7)


def written(root: Path, name: str, vectors: np.ndarray, damaged: Sequence[int] = (), kind: str = "") -> Any:
    """A set in one shard with classes drawn at random, as the options of a task name it. Vectors: [n, k]."""
    labels = np.random.default_rng(8).integers(0, 7, size=len(vectors))
    home = root / f"wds_{name}_test"
    (home / "test").mkdir(parents=True)
    with webdataset.TarWriter(str(home / "test/0.tar")) as writer:
        for i, picture in enumerate(pictures(len(vectors))):
            content = b"no picture" if i in damaged else picture
            writer.write({"__key__": f"s{i:07d}", "webp": content, "cls": int(labels[i]), "npy": vectors[i]})
    (home / "test/nshards.txt").write_text("1")
    (home / "classnames.txt").write_text("\n".join(NAMES))
    (home / "zeroshot_classification_templates.txt").write_text("{c}")
    if kind:
        (home / "dataset_type.txt").write_text(kind)
    return {"clip_benchmark": {"name": name, "root": str(root)}}


def incomes(count: int) -> np.ndarray:
    return np.random.default_rng(4).integers(1, 4, size=count)[:, None] * [1, 0, 0] + [0, 9, 9]


def several_classes(count: int) -> np.ndarray:
    return (np.random.default_rng(7).random((count, 7)) < 0.3).astype(np.int64)


def measured(encoder: ClipEncoder, dataset: Any) -> Outcome:
    choice = Choice(name="zero_shot", options={"dataset": dataset})
    return evaluate([choice], encoder, None, lambda *_: None)


def test_sets_judged_by_groups_have_the_worst_ones_value(encoder: ClipEncoder, tmp_path: Path) -> None:
    vectors = incomes(90)
    found = measured(encoder, written(tmp_path, "dollar_street", vectors))
    values = {row["metric"]: row["value"] for row in found.rows}
    (hits,) = [one.items for one in found.predictions if one.metric == "top5"]
    assert values["top5_worst_income"] == min(hits[vectors[:, 0] == g].mean() for g in (1, 2, 3)) < values["top5"]


def test_an_image_that_cannot_be_decoded_is_left_out_with_its_group_or_its_classes(
    encoder: ClipEncoder, tmp_path: Path
) -> None:
    vectors = incomes(110)
    found = measured(encoder, written(tmp_path, "dollar_street", vectors, damaged=[7]))
    assert {(row["n"], row["left_out"]) for row in found.rows} == {(109, 1)}
    (hits,) = [one.items for one in found.predictions if one.metric == "top5"]
    groups = np.delete(vectors[:, 0], 7)
    values = {row["metric"]: row["value"] for row in found.rows}
    assert values["top5_worst_income"] == min(hits[groups == g].mean() for g in (1, 2, 3))

    damaged = written(tmp_path, "voc2007_multilabel", several_classes(110), damaged=[7], kind="multilabel")
    (row,) = measured(encoder, damaged).rows
    assert (row["metric"], row["n"], row["left_out"]) == ("mean_average_precision", 109, 1)


def test_a_part_of_a_set_keeps_what_it_is_judged_by(encoder: ClipEncoder, tmp_path: Path) -> None:
    sets = {
        "top5_worst_income": written(tmp_path, "dollar_street", incomes(90)),
        "mean_average_precision": written(tmp_path, "voc2007_multilabel", several_classes(90), kind="multilabel"),
    }
    for metric, dataset in sets.items():
        found = measured(encoder, {"subset": {"of": dataset, "num_samples": 42}})
        assert not found.skipped
        assert {row["metric"]: row["n"] for row in found.rows}[metric] <= 42


def test_f1_is_over_the_classes_that_occur() -> None:
    rng = np.random.default_rng(9)
    labels, predicted = rng.integers(0, 6, size=200), rng.integers(0, 9, size=200)
    expected = f1_score(labels, predicted, average="macro", labels=np.unique(labels))  # WILDS calls it so
    assert f1_macro(predicted, labels) == pytest.approx(expected, abs=1e-12)


def test_one_word_stands_for_all_sets_of_a_suite() -> None:
    asked = parse_tasks(["suite:datacomp"])
    assert len(asked) == 37
    names = [choice.options["dataset"]["clip_benchmark"]["name"] for choice in asked]
    assert [c.name for c in asked if c.options["dataset"]["clip_benchmark"]["name"] == "flickr30k"] == [
        "retrieval"
    ]
    assert "vtab/pets" in names
    assert [suite.name for suite in suites.asked_whole(choice.options for choice in asked)] == ["datacomp"]
    assert not suites.asked_whole(choice.options for choice in asked[1:])
    rooted = parse_tasks(["suite:{name: vtab_plus, root: /sets}"])
    assert {choice.options["dataset"]["clip_benchmark"]["root"] for choice in rooted} == {"/sets"}
    with pytest.raises(ConfigError, match="unknown suite 'datacom'; did you mean 'datacomp'"):
        parse_tasks(["suite:datacom"])


def test_a_sweep_names_a_suite_among_its_evaluations(write_sweep: Callable[..., Path]) -> None:
    path = write_sweep(clip_grid(evaluate=[{"retrieval": {"dataset": "shapes"}}, {"suite": "datacomp"}]))
    (read,) = read_sweep(path).grids
    assert [c.name for c in read.evaluate].count("zero_shot") == 35
    assert len(read.evaluate) == 38


def test_the_mean_is_over_the_metric_that_each_set_is_judged_by() -> None:
    def row(task: str, name: str, metric: str, value: float) -> dict[str, Any]:
        return {"task": task, "dataset": suites.label_of(name), "metric": metric, "value": value}

    rows = [
        row("zero_shot", "vtab/pets", "top1", 0.9), row("zero_shot", "vtab/pets", "mean_per_class", 0.5),
        row("zero_shot", "imagenet1k", "top1", 0.3),
        row("retrieval", "flickr30k", "image_to_text_r1", 0.2),
        row("retrieval", "flickr30k", "text_to_image_r1", 0.4),
        row("retrieval", "mscoco_captions", "image_to_text_r1", 0.2),
        row("zero_shot", "geode", "top1", 0.8),
    ]  # fmt: skip
    suite = suites.suites()["datacomp"]
    values = suites.own_values(suite, rows)
    assert values == {"vtab/pets": 0.5, "imagenet1k": 0.3, "flickr30k": pytest.approx(0.3)}
    told = {score.title: (score.num_measured, score.num_sets) for score in suites.scores(suite, values)}
    assert told == {
        "ImageNet": (1, 1), "ImageNet dist. shifts": (0, 6), "VTAB": (1, 13), "Retrieval": (1, 3),
        "other sets": (0, 15), "DataComp": (3, 38),
    }  # fmt: skip
    assert suites.scores(suite, values)[-1].value == pytest.approx(1.1 / 3)
