"""An encoder's tower: its features are the encoder's, its layers are right, training it does no harm."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from tiny import TINY_CLIP, TINY_MOCO

from benchmark.config.run import Choice
from benchmark.models.clip import objective as clip
from benchmark.models.moco import objective as moco

RESNET = {
    **TINY_CLIP["tiny"],
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8},
}
TIMM = {
    **TINY_CLIP["tiny"],
    "vision_cfg": {
        "image_size": 224,
        "timm_model_name": "test_vit",
        "timm_pool": "",
        "timm_proj": "linear",
        "timm_model_pretrained": False,
    },
    "custom_text": True,
}
NO_HEAD = {
    **TIMM,
    "vision_cfg": {**TIMM["vision_cfg"], "timm_model_name": "test_resnet", "timm_proj": "", "timm_pool": "avg"},
}
MODELS = {
    "vit": lambda: clip.make(Choice(name="tiny", options=TINY_CLIP["tiny"]), 0),
    "resnet": lambda: clip.make(Choice(name="resnet", options=RESNET), 0),
    "timm": lambda: clip.make(Choice(name="timm", options=TIMM), 0),
    "timm_classifier": lambda: clip.make(Choice(name="timm", options=NO_HEAD), 0),
    "moco": lambda: moco.make(Choice(name="tiny", options=TINY_MOCO["tiny"]), 0),
}


def images() -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), dtype=np.uint8)
    return [Image.fromarray(p) for p in pixels]


@pytest.mark.parametrize("layer", ["joint", "penultimate"])
@pytest.mark.parametrize("name", MODELS)
def test_the_copy_gives_the_encoders_features_and_training_it_leaves_the_model_alone(
    name: str, layer: str
) -> None:
    objective = MODELS[name]()
    encoder = objective.encoder()
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    wanted = encoder.encode_images(images(), layer=layer)
    tower = encoder.trainable(layer)
    module = tower.module.eval()
    batch = torch.stack([tower.eval_transform(i) for i in images()])
    np.testing.assert_allclose(module(batch).detach().numpy(), wanted, atol=1e-5)
    assert all(p.requires_grad for p in module.parameters())
    assert tower.train_transform(images()[0]).shape == (3, *tower.image_size) == batch[0].shape
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    module.train()(batch).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(before[key], value) for key, value in objective.state_dict().items())
    assert not np.allclose(module.eval()(batch).detach().numpy(), wanted, atol=1e-5)


def test_the_projection_maps_penultimate_to_joint_features() -> None:
    for name, projection in (
        ("vit", lambda visual: visual.proj),
        ("timm", lambda visual: visual.head.proj.weight.T),
        ("timm_classifier", lambda visual: visual.trunk.fc.weight.T),
    ):
        objective = MODELS[name]()
        encoder = objective.encoder()
        penultimate = encoder.encode_images(images(), layer="penultimate")
        weight = projection(objective.model.visual).detach().numpy()
        assert penultimate.shape == (3, weight.shape[0])
        bias = objective.model.visual.trunk.fc.bias.detach().numpy() if name == "timm_classifier" else 0
        np.testing.assert_allclose(penultimate @ weight + bias, encoder.encode_images(images()), atol=1e-4)


@pytest.mark.parametrize("name", ["resnet", "moco"])
def test_where_there_is_no_projection_both_layers_are_one(name: str) -> None:
    encoder = MODELS[name]().encoder()
    assert np.array_equal(encoder.encode_images(images(), layer="penultimate"), encoder.encode_images(images()))


def test_transforms_and_facts_are_the_frameworks_own() -> None:
    tower = MODELS["vit"]().encoder().trainable()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        ours = tower.train_transform(images()[0])
        torch.manual_seed(3)
        assert torch.equal(ours, open_clip.image_transform(16, is_train=True)(images()[0]))
    assert tower.logit_scale == pytest.approx(1 / 0.07)
    assert tower.is_transformer
    assert not MODELS["resnet"]().encoder().trainable().is_transformer
    small = MODELS["moco"]().encoder().trainable()
    assert (small.is_transformer, small.image_size, small.logit_scale) == (True, (8, 8), 1.0)


@pytest.mark.parametrize("name", ["vit", "moco"])
def test_an_unknown_layer_is_named(name: str) -> None:
    encoder = MODELS[name]().encoder()
    for call in (lambda: encoder.encode_images(images(), layer="jiont"), lambda: encoder.trainable("jiont")):
        with pytest.raises(ValueError, match="layer: unknown value 'jiont'; did you mean 'joint'"):
            call()
