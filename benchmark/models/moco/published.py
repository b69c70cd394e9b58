"""Checkpoints of MoCo v3's published code (facebookresearch/moco-v3) as frozen encoders.

``main_moco.py`` saves ``arch`` and ``state_dict``, the latter of its model in DistributedDataParallel:
``module.base_encoder.*`` and ``module.momentum_encoder.*``, each a backbone whose ``head`` (transformers, keys of
timm) or ``fc`` (ResNets, keys of torchvision, which timm shares) is the projector. As in ``main_lincls.py`` the
base encoder up to there is what is evaluated.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.config.run import Choice
from benchmark.models.moco.encoder import BackboneEncoder
from benchmark.models.moco.objective import backbone_of
from benchmark.models.moco.options import MocoModel, model_options
from benchmark.models.moco.views import IMAGENET_MEAN, IMAGENET_STD
from benchmark.options import ConfigError

BASE = "module.base_encoder."
VITS: dict[str, dict[str, int]] = {
    "vit_small": {"width": 384, "depth": 12, "heads": 12},
    "vit_base": {"width": 768, "depth": 12, "heads": 12},
    "vit_large": {"width": 1024, "depth": 24, "heads": 16},
    "vit_huge": {"width": 1280, "depth": 32, "heads": 16},
}
"""``vits.py``: all of patches of 16. Its vit_conv_small and vit_conv_base have a stem that is not built here."""
SHOWN = 3
"""Keys told of a file that does not fit."""


def moco_v3_encoder(file: Path, device: torch.device, batch_size: int) -> tuple[BackboneEncoder, str]:
    """The base encoder of a checkpoint, and the name of its architecture.

    Raises ConfigError that names the file, and the keys by which it does not fit.
    """
    arch, state = _read(file)
    base = {key.removeprefix(BASE): value for key, value in state.items() if key.startswith(BASE)}
    if not base:
        raise ConfigError(
            f"{file}: no keys {BASE}*, as main_moco.py of MoCo v3 saves them; it has {_some(list(state))}"
        )
    options = _options(arch, base, str(file))
    with torch.random.fork_rng(devices=[]):
        backbone, _ = backbone_of(options)
    head = "head." if options.backbone == "vit" else "fc."
    found = {key: value for key, value in base.items() if not key.startswith(head)}
    own = {key: value.shape for key, value in backbone.state_dict().items()}
    missing = [key for key in own if key not in found]
    odd = [key for key, value in found.items() if own.get(key) != value.shape]
    if missing or odd:
        raise ConfigError(
            f"{file}: does not fit {arch}: missing {_some(missing)}; not of it, or of another shape, {_some(odd)}"
        )
    backbone.load_state_dict(found)
    return BackboneEncoder(backbone.to(device), options, batch_size), arch


def facts_of(encoder: BackboneEncoder) -> dict[str, Any]:
    """How the encoder was built, for a record: activations and preprocessing."""
    kinds = {type(module).__name__ for module in encoder.backbone.modules()}
    return {
        "activations": sorted(kind for kind in kinds if "ELU" in kind or "ReLU" in kind),
        "image_size": encoder.options.image_size,
        "mean": [round(value, 6) for value in IMAGENET_MEAN.ravel().tolist()],
        "std": [round(value, 6) for value in IMAGENET_STD.ravel().tolist()],
        "interpolation": "bilinear",
        "resize_mode": f"shortest, {encoder.options.eval_crop:g} of it kept",
    }


def _read(file: Path) -> tuple[str, dict[str, Tensor]]:
    try:
        whole = torch.load(file, map_location="cpu", weights_only=True)
        return str(whole["arch"]), dict(whole["state_dict"])
    except Exception as error:  # torch and pickle raise whatever the bytes lead them to
        raise ConfigError(
            f"{file}: is no checkpoint of MoCo v3, which holds arch and state_dict"
            f" ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from error


def _options(arch: str, base: dict[str, Tensor], where: str) -> MocoModel:
    """Sizes come from the architecture's name, the image's from the positions."""
    if arch in VITS:
        positions = base.get("pos_embed")
        if positions is None or "patch_embed.proj.weight" not in base:
            raise ConfigError(
                f"{where}: {arch} without {BASE}pos_embed and patch_embed; it has {_some(list(base))}"
            )
        patch = int(base["patch_embed.proj.weight"].shape[-1])
        side = round((positions.shape[1] - 1) ** 0.5)
        said = {**VITS[arch], "patch_size": patch, "image_size": side * patch}
    elif re.fullmatch(r"resnet\d+", arch):
        said = {"backbone": arch}
    else:
        known = ", ".join([*VITS, "resnet50"])
        raise ConfigError(f"{where}: arch '{arch}' is none that is built here (known: {known})")
    return model_options(Choice(name=arch, options=said), where)


def _some(keys: list[str]) -> str:
    told = ", ".join(keys[:SHOWN]) or "none"
    return told + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")
