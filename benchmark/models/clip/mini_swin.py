"""Networks of timm scaled down for images of 32 pixels; importing this adds their names to timm's."""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.swin_transformer import SwinTransformer


@register_model
def swin_mini_patch4_window4_32(pretrained: bool = False, **options: Any) -> SwinTransformer:
    """Swin (arXiv 2103.14030): 8 x 8 patches of 4 pixels, windows of 4, stages of 2 + 2 blocks of width 48 and 96.

    Raises ValueError if pretrained weights are asked for: there are none.
    """
    if pretrained:
        raise ValueError("swin_mini_patch4_window4_32 has no pretrained weights")
    shape: dict[str, Any] = {
        "img_size": 32,
        "patch_size": 4,
        "window_size": 4,
        "embed_dim": 48,
        "depths": (2, 2),
        "num_heads": (2, 4),
    }
    for given in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):  # timm passes them to every model
        options.pop(given, None)
    model: Any = SwinTransformer(**shape, **options)
    model.default_cfg = model.pretrained_cfg = {"input_size": (3, 32, 32), "pool_size": (4, 4)}
    return model
