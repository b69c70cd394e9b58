"""Options of MoCo v3: published values, one clear error for a mistake."""

from __future__ import annotations

import pytest

from benchmark.config.run import Choice
from benchmark.models.moco.options import MocoModel, resolve_model

TINY = {"width": 24, "depth": 2, "heads": 3, "image_size": 16, "patch_size": 4}


def test_presets_hold_the_published_values():
    vit = MocoModel(**resolve_model(Choice(name="vit_small"), "model").options)
    assert (vit.width, vit.depth, vit.heads, vit.patch_size, vit.image_size) == (384, 12, 12, 16, 224)
    assert (vit.temperature, vit.momentum, vit.momentum_cosine, vit.crop_min) == (0.2, 0.99, True, 0.08)
    assert MocoModel(**resolve_model(Choice(name="vit_base"), "model").options).width == 768
    resnet = MocoModel(**resolve_model(Choice(name="resnet50"), "model").options)
    assert (resnet.temperature, resnet.crop_min, resnet.projector_layers) == (1.0, 0.2, 2)
    assert resnet.predictor_last_bn is False


@pytest.mark.parametrize(
    "choice",
    [
        Choice(name="vit_small", options={"temperature": 0.5}),
        Choice(name="resnet50", options={"momentum": 0.996}),
        Choice(name="small", options={"backbone": "resnet18", "temperature": 0.2}),
        Choice(name="tiny", options=TINY),
    ],
)
def test_a_resolved_model_resolves_to_itself(choice):
    once = resolve_model(choice, "model")
    assert set(choice.options.items()) <= set(once.options.items())
    assert resolve_model(once, "model") == once


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit_smal", {}, r"grid\[0\]\.model: unknown MoCo model 'vit_smal'; did you mean 'vit_small'\?"),
        ("vit_small", {"temprature": 1}, r"grid\[0\]\.model\.vit_small\.temprature: .*'temperature'"),
        ("vit_small", {"temperature": "warm"}, r"grid\[0\]\.model\.vit_small\.temperature: "),
        ("vit_small", {"heads": 7}, r"grid\[0\]\.model\.vit_small: width must be a multiple of heads 7, got 384"),
        ("vit_small", {"image_size": 100}, "image_size must be a multiple of patch_size 16"),
        ("mine", {"width": 96, "depth": 3}, "heads is missing"),
        ("mine", {"backbone": "resnet81"}, "unknown name 'resnet81'; did you mean 'resnet1"),
        ("resnet50", {"patch_size": 8}, "patch_size belongs to a transformer"),
        ("resnet50", {"crop_min": 0.0}, "crop_min must be above 0"),
        ("tiny", {**TINY, "blur_sigma_max": 0.01}, "blur_sigma_max must be at least blur_sigma_min 0.1"),
    ],
)
def test_a_mistake_is_one_error_with_its_path_and_the_nearest_name(name, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        resolve_model(Choice(name=name, options=options), "grid[0].model")
    assert str(caught.value).startswith("grid[0].model")
    assert "\n" not in str(caught.value)
