"""Class names and prompts come from open_clip, clip_benchmark and timm, and these agree with one another."""

from __future__ import annotations

import ast
import json
import pickle
import re
import subprocess
import sys
from importlib.resources import files

import open_clip
import pytest

from benchmark.pool.sources import _published as published

DATA = files("clip_benchmark") / "datasets"


def test_imagenet_has_open_clips_names_and_prompts_which_are_clip_benchmarks() -> None:
    names = json.loads((DATA / "en_classnames.json").read_text())["imagenet1k"]
    prompts = json.loads((DATA / "en_zeroshot_classification_templates.json").read_text())["imagenet1k"]
    assert published.class_names("imagenet1k") == names == list(open_clip.IMAGENET_CLASSNAMES)
    found = [template("tench") for template in published.templates("imagenet1k")]
    assert found == [text.format(c="tench") for text in prompts]
    assert len(found) == 80


@pytest.mark.parametrize(
    ("data_set", "count", "first"),
    [("cifar10", 18, "a photo of a cat."), ("mnist", 1, 'a photo of the number: "cat".'), ("cars", 8, None)],
)
def test_other_data_sets_have_the_prompts_of_clip_benchmark(data_set: str, count: int, first: str | None) -> None:
    templates = published.templates(data_set)
    assert len(templates) == count
    if first:
        assert templates[0]("cat") == first
    again = pickle.loads(pickle.dumps(templates))  # noqa: S301
    assert [t("{cat}") for t in again] == [t("{cat}") for t in templates]
    assert data_set in published.data_sets_with_templates()


def test_names_come_in_the_order_of_labels() -> None:
    assert published.class_names("eurosat")[:2] == ["annual crop land", "forest"]
    with pytest.raises(KeyError):
        published.class_names("cifar10")  # torchvision has them


@pytest.mark.parametrize("subset", ["a", "r"])
def test_timms_classes_of_the_subsets_are_those_of_clip_benchmark(subset: str) -> None:
    source = (DATA / "builder.py").read_text()
    theirs = re.search(rf"imagenet_{subset}_wnids = ([\[{{].*?[\]}}])\n", source)
    everything = re.search(r"all_imagenet_wordnet_ids = (\[.*?\])", source, re.S)
    assert theirs
    assert everything
    wnids = published.wnids_of(f"imagenet_{subset}")
    assert wnids == sorted(ast.literal_eval(theirs.group(1)))
    assert len(wnids) == 200
    assert published.wnids() == ast.literal_eval(everything.group(1)) == sorted(published.wnids())
    # clip_benchmark masks the 1,000 names: names in the order of ImageNet's labels
    masked = [n for n, w in zip(open_clip.IMAGENET_CLASSNAMES, published.wnids(), strict=True) if w in set(wnids)]
    assert published.names_of_wnids(wnids) == masked


@pytest.mark.slow
def test_no_module_of_clip_benchmark_is_imported_to_read_its_data() -> None:
    code = (
        "import sys; from benchmark.pool.sources import _published as p;"
        "p.templates('cars'); p.class_names('pets');"
        "print([m for m in sys.modules if m.startswith(('clip_benchmark.', 'webdataset', 'pycocoevalcap'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
