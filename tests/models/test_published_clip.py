"""Published open_clip models are built as they were trained: activation, preprocessing, tokenizer."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny import TINY_CLIP

from benchmark.config.run import Choice
from benchmark.models.clip import options
from benchmark.models.clip.encoder import ClipEncoder
from benchmark.models.clip.published import (
    PREPROCESSING,
    Published,
    facts_of,
    no_texts,
    open_clip_encoder,
    published,
    with_activation,
)
from benchmark.options import ConfigError

CPU = torch.device("cpu")
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.2, 0.2]
TAG = {"url": "https://example.org/mini.pt", "mean": MEAN, "std": STD, "interpolation": "bilinear"}
IMAGES = [Image.fromarray(np.arange(i, i + 30 * 20 * 3, dtype=np.uint8).reshape(30, 20, 3)) for i in (0, 77)]
SILENT = ("roberta-ViT-B-32", "laion2b_s12b_b32k")
"""The pair of which open_clip's list says nothing and the model's own file QuickGELU."""


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of weights of a small model, of which open_clip lists a tag that was trained with QuickGELU."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name, more in (("mini", {}), ("mini-quickgelu", {"quick_gelu": True})):
        (folder / f"{name}.json").write_text(json.dumps(TINY_CLIP["tiny"] | more))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [*open_clip.factory._MODEL_CONFIG_PATHS])
    open_clip.add_model_config(folder)
    listed = {"quick": TAG | {"quick_gelu": True}, "plain": {"url": "https://example.org/plain.pt"}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "mini", listed)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "mini-quickgelu", {"quick": listed["quick"]})
    torch.manual_seed(0)
    model: Any = open_clip.create_model("mini")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def test_every_published_pair_gets_the_activation_it_was_trained_with() -> None:
    pairs = open_clip.list_pretrained()
    told = {pair: open_clip.get_pretrained_cfg(*pair).get("quick_gelu", False) for pair in pairs}
    as_named = {pair: open_clip.get_model_config(pair[0]).get("quick_gelu", False) for pair in pairs}
    built = {
        (model, tag): open_clip.get_model_config(with_activation(model, tag)).get("quick_gelu", False)
        for model, tag in pairs
    }
    assert sum(told[pair] != as_named[pair] for pair in pairs) > 20  # what open_clip builds wrong, with a warning
    assert [pair for pair in pairs if told[pair] != built[pair]] == [SILENT]
    assert built["ViT-B-32", "openai"]
    assert not built["ViT-B-32", "laion2b_s34b_b79k"]


def test_the_name_tells_the_activation() -> None:
    assert published("ViT-B-32", "openai", "x") == Published("ViT-B-32-quickgelu", "openai")
    assert published("ViT-B-32", "laion2b_s34b_b79k", "x") == Published("ViT-B-32", "laion2b_s34b_b79k")


def test_a_file_with_its_tag_has_the_tags_activation_and_preprocessing(mini: Path) -> None:
    what = published("mini", str(mini), "x", "quick")
    encoder = open_clip_encoder(what, CPU, 8)
    expected, _, transform = open_clip.create_model_and_transforms(
        "mini", force_quick_gelu=True, image_mean=MEAN, image_std=STD, image_interpolation="bilinear"
    )
    expected.load_state_dict(torch.load(mini, weights_only=True))
    with torch.inference_mode():
        features = expected.eval().encode_image(torch.stack([transform(image) for image in IMAGES])).numpy()
    np.testing.assert_array_equal(encoder.encode_images(IMAGES), features)
    assert facts_of(encoder) == {
        "activations": ["QuickGELU"],
        "image_size": [16, 16],
        "mean": MEAN,
        "std": STD,
        "interpolation": "bilinear",
        "resize_mode": "shortest",
        "tokenizer": "SimpleTokenizer",
    }
    assert encoder.encode_texts(["a cat"]).shape == (1, 16)


def test_a_file_without_a_tag_is_warned_of_where_tags_differ(mini: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        encoder = open_clip_encoder(published("mini", str(mini), "x"), CPU, 8)
    assert "the weights of quick, say so: as_tag" in caplog.text
    assert facts_of(encoder)["activations"] == ["GELU"]
    caplog.clear()
    open_clip_encoder(published("mini", str(mini), "x", "plain"), CPU, 8)
    assert "as_tag" not in caplog.text


def published_transforms() -> dict[str, Any]:
    """One of each preprocessing that a tag of open_clip's asks for, at 16 pixels, by its options."""
    found = {}
    for model, tag in open_clip.list_pretrained():
        cfg = open_clip.get_pretrained_cfg(model, tag)
        said = {key: cfg[key] for key in PREPROCESSING if key in cfg}
        found[str(said)] = open_clip.image_transform(16, is_train=False, **said)
    return found


def test_models_get_bit_for_bit_what_each_published_preprocessing_gives() -> None:
    transforms = published_transforms()
    assert len(transforms) >= 8
    model: Any = open_clip.CLIP(**TINY_CLIP["tiny"])
    given: list[torch.Tensor] = []
    model.visual.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    images = [*IMAGES, IMAGES[0].convert("L"), IMAGES[1].convert("RGBA"), IMAGES[1].resize((9, 70))]
    for transform in transforms.values():
        ClipEncoder(model, transform, no_texts, 8).encode_images(images)
        assert torch.equal(given.pop(), torch.stack([transform(image) for image in images]))


def test_a_local_folder_holds_all_of_a_model(mini: Path, tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    folder.mkdir()
    config = {"model_cfg": TINY_CLIP["tiny"] | {"quick_gelu": True}, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(torch.load(mini, weights_only=True), folder / "open_clip_model.safetensors")
    encoder = open_clip_encoder(published(f"local-dir:{folder}", "", "x"), CPU, 8)
    assert facts_of(encoder) | {"mean": MEAN, "activations": ["QuickGELU"]} == facts_of(encoder)
    as_file = open_clip_encoder(published("mini-quickgelu", str(mini), "x"), CPU, 8)
    np.testing.assert_array_equal(encoder.encode_texts(["a dog"]), as_file.encode_texts(["a dog"]))
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"folder must hold open_clip_config\.json and weights"):
        open_clip_encoder(published(f"local-dir:{folder}", "", "x"), CPU, 8)


@pytest.mark.parametrize(
    ("model", "pretrained", "as_tag", "message"),
    [
        ("local-dir:nowhere", "", "", "nowhere holds no open_clip_config.json"),
        ("hf-hub:timm/x", "openai", "", "holds weights and preprocessing; leave 'openai' out"),
        ("ViT-B-32", "openai", "openai", "as_tag 'openai': say it of a file"),
        ("ViT-B-32", __file__, "opnai", "as_tag 'opnai': .* name a tag of ViT-B-32"),
        (
            "ViT-B-16-SigLIP",
            "webli",
            "",
            "need the tokenizer timm/ViT-B-16-SigLIP, .* hf download timm/ViT-B",
        ),
    ],
)
def test_what_cannot_be_is_one_error_before_the_weights(
    model: str, pretrained: str, as_tag: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=f"here: .*{message}"):
        published(model, pretrained, "here", as_tag)


def test_images_alone_need_no_tokenizer() -> None:
    assert published("ViT-B-16-SigLIP", "webli", "x", with_text=False).model == "ViT-B-16-SigLIP"


@pytest.mark.parametrize("model", ["ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "ViT-L-14-CLIPA", "roberta-ViT-B-32"])
def test_models_with_another_tokenizer_are_refused_before_they_are_trained(model: str) -> None:
    with pytest.raises(ConfigError, match=r"grid\.model: .*need the tokenizer .*92 of open_clip's 144: .*RN50, "):
        options.resolve_model(Choice(name=model), "grid.model")


def test_a_model_that_captions_is_refused_before_it_is_trained() -> None:
    with pytest.raises(ConfigError, match="a CoCa model, whose captioning loss is not trained: models with"):
        options.resolve_model(Choice(name="coca_ViT-B-32"), "grid.model")
    own = {**TINY_CLIP["tiny"], "text_cfg": {"hf_tokenizer_name": "bert-base-uncased"}}
    with pytest.raises(ConfigError, match="mine: its texts need the tokenizer bert-base-uncased"):
        options.resolve_model(Choice(name="mine", options=own), "grid.model")
