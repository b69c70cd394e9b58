"""The vision transformer of MoCo v3: timm's, with fixed sin-cos positions and the paper's initialisation.

Letters in shapes: P patches a side, w width.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


def vision_transformer(
    *,
    image_size: int,
    patch_size: int,
    width: int,
    depth: int,
    heads: int,
    mlp_ratio: float,
    freeze_patch_projection: bool,
) -> VisionTransformer:
    """A headless transformer: images [b, 3, H, H] -> the normalised class token, [b, w]."""
    vit = VisionTransformer(
        img_size=image_size,
        patch_size=patch_size,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=mlp_ratio,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_classes=0,
        global_pool="token",
        weight_init="skip",
    )
    _initialise(vit, patch_size)
    projection = vit.patch_embed.proj
    projection.requires_grad_(not freeze_patch_projection)  # arXiv 2104.02057, section 4
    return vit


def _initialise(vit: VisionTransformer, patch_size: int) -> None:
    """As the published ``vits.py``."""
    for name, module in vit.named_modules():
        if isinstance(module, nn.Linear):
            fan_out, fan_in = module.weight.shape
            if name.endswith("attn.qkv"):
                fan_out //= 3  # q, k and v are three matrices, stored as one
            _uniform(module, fan_in + fan_out)
    _uniform(vit.patch_embed.proj, 3 * patch_size**2 + vit.embed_dim)
    assert vit.cls_token is not None
    nn.init.normal_(vit.cls_token, std=1e-6)
    positions = sincos_positions(vit.embed_dim, vit.patch_embed.grid_size[0])
    class_token = torch.zeros(1, vit.embed_dim)
    vit.pos_embed = nn.Parameter(torch.cat([class_token, positions])[None], requires_grad=False)  # [1, 1+P*P, w]


def _uniform(layer: nn.Linear | nn.Conv2d, fans: int) -> None:
    """Xavier-uniform weights for a sum of fan-in and fan-out; biases 0."""
    bound = math.sqrt(6 / fans)
    nn.init.uniform_(layer.weight, -bound, bound)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def sincos_positions(width: int, patches: int) -> Tensor:
    """Fixed embedding of a square grid, row by row, [P*P, w]: sin and cos of the row, then of the column.

    The frequencies fall from 1 towards 1/10000 in w/4 geometric steps.
    """
    frequencies = 10000.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(patches)[:, None] * frequencies  # [P, w/4]
    wave = torch.cat([angles.sin(), angles.cos()], dim=1)  # [P, w/2]
    rows = wave[:, None].expand(patches, patches, -1)
    columns = wave[None].expand(patches, patches, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)
