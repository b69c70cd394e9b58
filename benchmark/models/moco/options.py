"""The options of a MoCo v3 model: its network, loss and views, with the published values as defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmark.config.run import Choice, resolved
from benchmark.options import ConfigError, build, did_you_mean, require


@dataclass(frozen=True, kw_only=True)
class MocoModel:
    """The network, its loss and its views. Defaults: the published code's for ViT (its CONFIG.md and
    ``vits.py``); for a ResNet those of ``RESNET`` take their place."""

    backbone: str = "vit"
    """``vit``, or the name of a ResNet of timm."""
    image_size: int = 224
    width: int | None = None
    """Transformer only, like the next five."""
    depth: int | None = None
    heads: int | None = None
    patch_size: int = 16
    mlp_ratio: float = 4.0
    freeze_patch_projection: bool = True
    """Keep the random patch projection (``--stop-grad-conv1``; arXiv 2104.02057, section 4)."""
    projector_layers: int = 3
    predictor_layers: int = 2
    predictor_last_bn: bool = True
    """End the predictor in a batch normalisation (``moco/builder.py``: for ViT)."""
    hidden_dim: int = 4096
    embed_dim: int = 256
    temperature: float = 0.2
    momentum: float = 0.99
    """Of the momentum encoder, at the start."""
    momentum_cosine: bool = True
    """Raise the momentum to 1 along half a cosine (``--moco-m-cos``)."""
    crop_min: float = 0.08
    """Smallest share of the image's area in a view."""
    flip: bool = True
    blur_sigma_min: float = 0.1
    blur_sigma_max: float = 2.0
    """Pixels of the view: made for 224; smaller images want less."""
    solarize_probability: float = 0.2
    """In the second view."""
    eval_crop: float = 0.875
    """Share of the shortest side that evaluation keeps: 224 of 256 (``main_lincls.py``); 1 for small images."""

    def __post_init__(self) -> None:
        counts = ("image_size", "patch_size", "predictor_layers", "projector_layers", "hidden_dim", "embed_dim")
        for name in counts:
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("mlp_ratio", "temperature", "blur_sigma_min"):
            require(getattr(self, name) > 0, name, "above 0", getattr(self, name))
        for name in ("crop_min", "eval_crop"):
            require(0 < getattr(self, name) <= 1, name, "above 0 and at most 1", getattr(self, name))
        for name in ("momentum", "solarize_probability"):
            require(0 <= getattr(self, name) <= 1, name, "from 0 to 1", getattr(self, name))
        least = f"at least blur_sigma_min {self.blur_sigma_min}"
        require(self.blur_sigma_max >= self.blur_sigma_min, "blur_sigma_max", least, self.blur_sigma_max)
        if self.backbone == "vit":
            self._check_vit()
        else:
            self._check_resnet()

    @property
    def transformer(self) -> tuple[int, int, int]:
        """Width, depth and heads; asked of a transformer alone."""
        assert self.width is not None
        assert self.depth is not None
        assert self.heads is not None
        return self.width, self.depth, self.heads

    def _check_vit(self) -> None:
        for name in ("width", "depth", "heads"):
            value = getattr(self, name)
            if value is None:
                raise ValueError(f"{name} is missing: a transformer that is not a preset needs it")
            require(value >= 1, name, "at least 1", value)
        width, _, heads = self.transformer
        require(width % 4 == 0, "width", "a multiple of 4 (sin-cos positions)", width)
        require(width % heads == 0, "width", f"a multiple of heads {heads}", width)
        multiple = f"a multiple of patch_size {self.patch_size}"
        require(self.image_size % self.patch_size == 0, "image_size", multiple, self.image_size)

    def _check_resnet(self) -> None:
        import timm  # takes seconds to load

        known = ["vit", *timm.list_models(module="resnet")]
        if self.backbone not in known:
            near = did_you_mean(self.backbone, known) or " (known: vit, and timm's ResNets)"
            raise ValueError(f"backbone: unknown name '{self.backbone}'{near}")
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        for name in ("width", "depth", "heads", "patch_size", "mlp_ratio", "freeze_patch_projection"):
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"{name} belongs to a transformer; backbone {self.backbone} does not use it")


RESNET: dict[str, Any] = {
    "projector_layers": 2,
    "predictor_last_bn": False,
    "temperature": 1.0,
    "crop_min": 0.2,
}
"""Where a ResNet's published defaults differ (``moco/builder.py``, ``CONFIG.md``)."""

PRESETS: dict[str, dict[str, Any]] = {
    "vit_small": {"width": 384, "depth": 12, "heads": 12},  # DeiT-S and CLIP's ViT-S have 6 heads
    "vit_base": {"width": 768, "depth": 12, "heads": 12},
    "resnet50": {"backbone": "resnet50"},
}


def resolve_model(choice: Choice, where: str) -> Choice:
    """A preset, or a name of one's own with options, with every option written out; builds no network.

    Raises ConfigError that opens with ``where``, the option and the nearest name.
    """
    return resolved(choice.name, model_options(choice, where))


def example_bytes(choice: Choice) -> int:
    """Bytes of a training example: two views, uint8 [H, H, 3]; an augmentation adds little."""
    return 2 * 3 * model_options(choice, "model").image_size ** 2


def model_options(choice: Choice, where: str) -> MocoModel:
    """The options of a preset, or of a name of one's own. Raises ConfigError that opens with ``where``."""
    if choice.name not in PRESETS and not choice.options:
        near = did_you_mean(choice.name, PRESETS) or f" (known: {', '.join(PRESETS)})"
        raise ConfigError(f"{where}: unknown MoCo model '{choice.name}'{near}; a name of your own needs options")
    return build(MocoModel, _with_published(choice), f"{where}.{choice.name}")


def _with_published(choice: Choice) -> Mapping[str, Any]:
    if not isinstance(choice.options, Mapping):
        return choice.options  # build() says what is wrong with it
    options = {**PRESETS.get(choice.name, {}), **choice.options}
    return options if options.get("backbone", "vit") == "vit" else {**RESNET, **options}
