"""The network of MoCo v3: sizes, initial weights, positions and features as published."""

from __future__ import annotations

import math

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer

from benchmark.config.run import Choice
from benchmark.models.moco.objective import Moco, mlp
from benchmark.models.moco.options import model_options
from benchmark.models.moco.vit import sincos_positions, vision_transformer


def tiny_vit() -> VisionTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return vision_transformer(
            image_size=16, patch_size=4, width=24, depth=2, heads=3, mlp_ratio=4.0, freeze_patch_projection=True
        )


def test_positions_equal_the_direct_formula_and_are_not_trained():
    width, patches = 12, 3
    direct = np.zeros((patches * patches, width))
    for row in range(patches):
        for column in range(patches):
            for i in range(width // 4):
                omega = 10000 ** (-i / (width // 4))
                for block, angle in enumerate((row * omega, column * omega)):
                    at = 2 * block * (width // 4) + i
                    direct[row * patches + column, at] = math.sin(angle)
                    direct[row * patches + column, at + width // 4] = math.cos(angle)
    np.testing.assert_allclose(sincos_positions(width, patches), direct, atol=1e-6)
    positions = tiny_vit().pos_embed
    assert not positions.requires_grad
    assert torch.equal(positions[0, 0], torch.zeros(24))
    assert torch.equal(positions[0, 1:], sincos_positions(24, 4))


def test_initial_weights_fill_the_published_intervals():
    vit = tiny_vit()
    for weight, fans in (
        (vit.blocks[0].attn.qkv.weight, 24 + 24),  # q, k and v apart; together it would be 24 + 72
        (vit.blocks[0].attn.proj.weight, 24 + 24),
        (vit.blocks[1].mlp.fc1.weight, 24 + 96),
        (vit.patch_embed.proj.weight, 3 * 4 * 4 + 24),
    ):
        bound = math.sqrt(6 / fans)
        assert 0.98 * bound < weight.abs().max() <= bound
    assert vit.cls_token.abs().max() < 1e-5
    assert all(p.abs().max() == 0 for name, p in vit.named_parameters() if name.endswith("bias"))
    assert vit.norm.eps == 1e-6


def test_features_are_the_normalised_class_token():
    vit = tiny_vit().eval()
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        tokens = vit.patch_embed(images) + vit.pos_embed[:, 1:]
        tokens = torch.cat([(vit.cls_token + vit.pos_embed[:, :1]).expand(3, -1, -1), tokens], dim=1)
        torch.testing.assert_close(vit(images), vit.norm(vit.blocks(tokens))[:, 0])


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in module.named_parameters()}


def test_heads_have_the_published_sizes():
    with torch.device("meta"):
        vit = Moco(model_options(Choice(name="vit_small"), "model"))
        resnet = Moco(model_options(Choice(name="resnet50"), "model"))
    assert shapes_of(vit.base.projector) == {
        "0.weight": (4096, 384), "1.weight": (4096,), "1.bias": (4096,),
        "3.weight": (4096, 4096), "4.weight": (4096,), "4.bias": (4096,),
        "6.weight": (256, 4096),
    }  # fmt: skip
    assert vit.base.projector[-1].affine is False
    predictor = {"0.weight": (4096, 256), "1.weight": (4096,), "1.bias": (4096,), "3.weight": (256, 4096)}
    assert shapes_of(vit.predictor) == shapes_of(resnet.predictor) == predictor
    assert vit.predictor[-1].affine is False
    assert isinstance(resnet.predictor[-1], torch.nn.Linear)
    assert [p for n, p in shapes_of(resnet.base.projector).items() if len(p) == 2] == [(4096, 2048), (256, 4096)]
    assert vit.base.backbone.blocks[0].attn.num_heads == 12
    assert sum(p.numel() for p in vit.base.backbone.parameters()) == 21_665_664  # ViT-S/16 without a head
    assert sum(p.numel() for p in resnet.base.backbone.parameters()) == 23_508_032  # ResNet-50 without a head


def test_one_layer_heads_are_possible():
    assert [type(m).__name__ for m in mlp([8, 4], last_bn=False)] == ["Linear"]
