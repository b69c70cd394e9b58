"""Checkpoints in the layout of MoCo v3's published code give the features of the same weights here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmark.config.run import Choice
from benchmark.evaluate import command
from benchmark.models.moco.objective import Moco, make
from benchmark.models.moco.published import facts_of, moco_v3_encoder
from benchmark.options import ConfigError
from benchmark.runs.record import read_evaluation

CPU = torch.device("cpu")
HEADS = {"hidden_dim": 8, "embed_dim": 4}
MODELS = {
    "vit_small": Choice(name="vit_small", options={"image_size": 32, **HEADS}),
    "resnet18": Choice(name="resnet18", options={"backbone": "resnet18", **HEADS}),
}
IMAGES = [Image.fromarray(np.arange(i, i + 40 * 50 * 3, dtype=np.uint8).reshape(40, 50, 3)) for i in (0, 77)]


def layout(model: Moco, arch: str) -> dict[str, Any]:
    """What ``main_moco.py`` saves of these weights."""
    head = "fc" if arch.startswith("resnet") else "head"
    state: dict[str, Tensor] = {}
    for theirs, ours in (("base_encoder", model.base), ("momentum_encoder", model.momentum_encoder)):
        for key, value in ours.state_dict().items():
            part, _, rest = key.partition(".")
            state[f"module.{theirs}.{rest if part == 'backbone' else f'{head}.{rest}'}"] = value
    state |= {f"module.predictor.{key}": value for key, value in model.predictor.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters()).state_dict()
    return {"epoch": 300, "arch": arch, "state_dict": state, "optimizer": optimizer, "scaler": {"scale": 1.0}}


@pytest.fixture(params=list(MODELS))
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_features_are_those_of_our_model_with_the_same_weights(arch: str, tmp_path: Path) -> None:
    model: Any = make(MODELS[arch], 3)
    torch.save(layout(model, arch), tmp_path / "checkpoint.pth.tar")
    encoder, name = moco_v3_encoder(tmp_path / "checkpoint.pth.tar", CPU, 2)
    assert name == arch
    assert encoder.options.image_size == (32 if arch == "vit_small" else 224)
    np.testing.assert_array_equal(encoder.encode_images(IMAGES), model.encoder(2).encode_images(IMAGES))
    assert facts_of(encoder)["activations"] == (["GELU"] if arch == "vit_small" else ["ReLU"])


@pytest.mark.slow
def test_the_command_evaluates_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model: Any = make(MODELS["vit_small"], 0)
    torch.save(layout(model, "vit_small"), "vit-s-300ep.pth.tar")
    assert command.main(["moco_v3:vit-s-300ep.pth.tar", "--tasks", "knn:digits"]) == 0
    (path,) = tmp_path.glob("results/evaluations/*/evaluation.json")
    found = read_evaluation(path)
    assert (found["model"], found["pretrained"]) == ("moco_v3-vit_small", "vit-s-300ep.pth.tar")
    assert found["encoder"]["image_size"] == 32
    assert found["metrics"][0]["value"] > 0.3  # raw pixels through a random network
    assert command.main(["moco_v3:vit-s-300ep.pth.tar", "--tasks", "zero_shot:shapes"]) == 2
    assert "needs captions, which MoCo v3 does not read" in capsys.readouterr().err
    assert command.main(["moco_v3:nowhere", "--tasks", "knn:digits"]) == 2
    assert "moco_v3:nowhere: no such file" in capsys.readouterr().err


def test_a_file_that_does_not_fit_says_which_keys(tmp_path: Path) -> None:
    model: Any = make(MODELS["resnet18"], 0)
    whole = layout(model, "resnet18")
    base = "module.base_encoder."

    def refused(content: object, message: str) -> None:
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(ConfigError, match=r"x\.pth: " + message):
            moco_v3_encoder(tmp_path / "x.pth", CPU, 2)

    odd = dict(whole["state_dict"])
    odd[f"{base}layer9"] = odd.pop(f"{base}conv1.weight")
    refused(whole | {"state_dict": odd}, r"does not fit resnet18: missing conv1\.weight; not of it, .* layer9")
    linear = {key.replace(base, "module."): value for key, value in whole["state_dict"].items() if base in key}
    refused(
        whole | {"state_dict": linear}, r"no keys module\.base_encoder\.\*.* has module\.conv1\.weight, .*more"
    )
    refused(whole | {"arch": "vit_conv_small"}, r"arch 'vit_conv_small' is none that is built here \(known: vit")
    refused(whole | {"arch": "vit_small"}, r"vit_small without .*pos_embed")
    refused(whole | {"arch": "resnet50"}, r"does not fit resnet50")
    refused({"model": 1}, "is no checkpoint of MoCo v3, which holds arch and state_dict")
