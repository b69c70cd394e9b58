"""An image tower as timm reads it from a folder or a hub: the name of its network, its options, its weights.

What it gives of an image is the run's image embedding: for CLIP the one that texts share, with its last projection
as timm's classifier; for MoCo v3 the backbone's output.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import timm
import torch
from open_clip.model import CLIPVisionCfg
from timm.models import byobnet, vision_transformer
from torch import nn

from benchmark.config.run import Choice
from benchmark.export.refusal import CannotExport
from benchmark.files import write_text
from benchmark.models.clip.objective import Clip, config_of
from benchmark.models.moco.objective import Moco
from benchmark.models.moco.views import IMAGENET_MEAN, IMAGENET_STD
from benchmark.models.objective import Objective
from benchmark.models.weights_file import save_weights

CONFIG, WEIGHTS = "config.json", "model.safetensors"
VIT, CLIP_VIT, QUICK_CLIP_VIT = (
    "vit_base_patch16_224",
    "vit_base_patch16_clip_224",
    "vit_base_patch16_clip_quickgelu_224",
)
"""timm's networks whose options make any size of vision transformer: MoCo's, CLIP's, CLIP's with QuickGELU."""
VIT_OPTIONS = {
    *("image_size", "patch_size", "width", "layers", "head_width", "mlp_ratio"),
    *("pos_embed_type", "patch_dropout"),
}
"""Of open_clip's ``vision_cfg``: what timm's transformers have too, or what ends with the training."""
CLIP_RESNETS = {
    ((3, 4, 6, 3), 64): "resnet50_clip",
    ((3, 4, 23, 3), 64): "resnet101_clip",
    ((4, 6, 10, 6), 80): "resnet50x4_clip",
    ((6, 8, 18, 8), 96): "resnet50x16_clip",
    ((3, 15, 36, 10), 128): "resnet50x64_clip",
}
"""Layers and width of CLIP's ResNets, and timm's name for them."""
KEPT = ("first_conv", "classifier", "fixed_input_size", "pool_size")
"""What timm knows of a network and a changed number of classes or channels needs."""


class Tower(NamedTuple):
    """timm's network with the run's weights, how timm makes it, and what it is shown."""

    architecture: str
    args: dict[str, Any]
    network: nn.Module
    preprocessing: dict[str, Any]


def write(model: Objective, choice: Choice, folder: Path) -> None:
    """Leave timm's files in ``folder``. Raises CannotExport for a tower that timm does not build."""
    tower = _of_moco(model) if isinstance(model, Moco) else _of_clip(model, choice)
    known: Mapping[str, Any] = tower.network.pretrained_cfg  # type: ignore[assignment]
    told = {
        "architecture": tower.architecture,
        "num_classes": tower.args["num_classes"],
        "num_features": tower.network.num_features,
        "model_args": tower.args,
        "pretrained_cfg": {
            **{key: known[key] for key in KEPT if key in known},
            **tower.preprocessing,
            "num_classes": tower.args["num_classes"],
        },
    }
    write_text(folder / CONFIG, json.dumps(told, indent=2) + "\n")
    save_weights(folder / WEIGHTS, tower.network)


def check_known(name: str | None) -> None:
    """Raise CannotExport for a network that this suite has added to timm's."""
    if name is not None and not timm.models.model_entrypoint(name).__module__.startswith("timm."):
        raise CannotExport(f"its image tower {name} is a network of this suite's own, which timm does not have")


def _of_clip(model: Objective, choice: Choice) -> Tower:
    assert isinstance(model, Clip)
    config, visual = config_of(choice), model.model.visual
    if isinstance(visual, open_clip.timm_model.TimmModel):
        architecture, args, network = _trunk(config, visual)
    elif isinstance(visual, open_clip.modified_resnet.ModifiedResNet):
        architecture, args, network = _clip_resnet(config, visual)
    else:
        architecture, args, network = _clip_vit(config, visual)
    size = visual.image_size
    preprocessing = {
        "input_size": [3, *((size, size) if isinstance(size, int) else size)],
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
    }
    return Tower(architecture, args, network, preprocessing)


Made = tuple[str, dict[str, Any], nn.Module]


def _clip_vit(config: dict[str, Any], visual: nn.Module) -> Made:
    said, usual = config["vision_cfg"], CLIPVisionCfg()
    odd = sorted(key for key, value in said.items() if key not in VIT_OPTIONS and value != getattr(usual, key))
    if odd:
        raise CannotExport(f"timm's vision transformers have nothing for vision_cfg.{', '.join(odd)}")
    vision = CLIPVisionCfg(**said)
    assert isinstance(vision.layers, int)
    args = {
        "img_size": vision.image_size,
        "patch_size": vision.patch_size,
        "embed_dim": vision.width,
        "depth": vision.layers,
        "num_heads": vision.width // vision.head_width,
        "mlp_ratio": vision.mlp_ratio,
        "num_classes": config["embed_dim"],
    }
    architecture = QUICK_CLIP_VIT if config.get("quick_gelu") else CLIP_VIT
    return architecture, args, _converted(architecture, args, visual, vision_transformer.checkpoint_filter_fn)


def _clip_resnet(config: dict[str, Any], visual: nn.Module) -> Made:
    vision = CLIPVisionCfg(**config["vision_cfg"])
    assert not isinstance(vision.layers, int)
    size = tuple(vision.layers), vision.width
    if size not in CLIP_RESNETS:
        raise CannotExport(
            f"timm has CLIP's ResNets in the published sizes alone, {', '.join(CLIP_RESNETS.values())}; this one"
            f" has layers {list(size[0])} of width {size[1]}"
        )
    args = {"img_size": vision.image_size, "num_classes": config["embed_dim"]}
    return CLIP_RESNETS[size], args, _converted(CLIP_RESNETS[size], args, visual, byobnet.checkpoint_filter_fn)


def _converted(architecture: str, args: dict[str, Any], visual: nn.Module, convert: Any) -> nn.Module:
    """timm's network with the weights of open_clip's, under timm's names."""
    network: nn.Module = timm.create_model(architecture, **args)
    weights = {f"visual.{key}": value for key, value in visual.state_dict().items()}
    return _loaded(network, convert(weights, network), architecture)


def _loaded(network: nn.Module, weights: Mapping[str, Any], architecture: str) -> nn.Module:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise CannotExport(f"timm's {architecture} has other weights: {first}") from error
    return network


def _trunk(config: dict[str, Any], visual: Any) -> Made:
    """A network of timm's within open_clip's adapter, whose linear projection becomes timm's classifier."""
    vision = CLIPVisionCfg(**config["vision_cfg"])
    check_known(vision.timm_model_name)
    layers = dict(visual.head.named_children())
    if "mlp" in layers or "pool" in layers:
        raise CannotExport(
            "timm's networks end in a linear projection; this one in vision_cfg.timm_proj"
            f" {vision.timm_proj}, timm_pool {vision.timm_pool}"
        )
    args = {"num_classes": config["embed_dim"], **({"global_pool": vision.timm_pool} if vision.timm_pool else {})}
    name = str(vision.timm_model_name)
    network: Any = timm.create_model(name, **args)
    if "proj" not in layers:
        return name, args, _loaded(network, visual.trunk.state_dict(), name)
    network.load_state_dict(visual.trunk.state_dict(), strict=False)  # which has no classifier
    classifier, proj = network.get_classifier(), layers["proj"]
    with torch.no_grad():
        classifier.weight.copy_(proj.weight)
        classifier.bias.copy_(torch.zeros(len(proj.weight)) if proj.bias is None else proj.bias)
    return name, args, network


def _of_moco(model: Moco) -> Tower:
    options, backbone = model.options, model.base.get_submodule("backbone")
    side = options.image_size
    args: dict[str, Any] = {"num_classes": 0}
    architecture = options.backbone
    if options.backbone == "vit":
        architecture, (width, depth, heads) = VIT, options.transformer
        args |= {"img_size": side, "patch_size": options.patch_size, "embed_dim": width, "depth": depth}
        args |= {"num_heads": heads, "mlp_ratio": options.mlp_ratio}
    network = _loaded(timm.create_model(architecture, **args), backbone.state_dict(), architecture)
    preprocessing = {
        "input_size": [3, side, side],
        "mean": IMAGENET_MEAN.ravel().tolist(),
        "std": IMAGENET_STD.ravel().tolist(),
        "interpolation": "bilinear",
        "crop_pct": crop_share(side, options.eval_crop),
        "crop_mode": "center",
    }
    return Tower(architecture, args, network, preprocessing)


def crop_share(side: int, kept: float) -> float:
    """The share with which timm, which rounds down, resizes to as many pixels as ``plain_view``, which rounds."""
    resized = round(side / kept)
    return kept if math.floor(side / kept) == resized else side / (resized + 0.5)
