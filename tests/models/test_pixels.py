"""Images reach a model as bytes, and it is given bit for bit what a transform of each image would give it."""

from __future__ import annotations

from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from tiny import TINY_CLIP, TINY_MOCO
from torch import Tensor, nn

from benchmark.config.run import Choice
from benchmark.models.clip import objective as clip
from benchmark.models.clip.encoder import ClipEncoder
from benchmark.models.moco import objective as moco

OTHER_MEAN: dict[str, Any] = {"mean": (0.5, 0.4, 0.3), "std": (0.5, 0.2, 0.1), "interpolation": "bilinear"}


def images() -> list[Image.Image]:
    """All values of a byte; colours, grey and a palette; sizes below and above the model's."""
    rng = np.random.default_rng(0)
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3))
    sizes = [(20, 24), (9, 40), (64, 33), (16, 16)]
    random = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    return [ramp, *random, random[0].convert("L"), random[1].convert("P"), random[2].convert("RGBA")]


def given(network: nn.Module, encoder: Any) -> list[Tensor]:
    """What the network is given for the images, by either way into the encoder."""
    found: list[Tensor] = []
    hook = network.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    stack = torch.stack([encoder.image_pixels(image) for image in images()])
    assert stack.dtype == torch.uint8
    rows = encoder.embed_images(stack)
    assert np.array_equal(rows, encoder.encode_images(images()))
    hook.remove()
    return found


@pytest.mark.parametrize(
    "transform",
    [
        open_clip.image_transform(16, is_train=False),
        open_clip.image_transform(16, is_train=False, **OTHER_MEAN),
        open_clip.image_transform(16, is_train=False, resize_mode="squash"),
        open_clip.image_transform(16, is_train=False, resize_mode="longest", fill_color=7),
    ],
    ids=["trained here", "another mean", "squashed", "padded"],
)
def test_clip_is_given_what_its_transform_gives(transform: Any) -> None:
    objective = clip.make(Choice(name="tiny", options=TINY_CLIP["tiny"]), 0)
    encoder = ClipEncoder(objective.model, transform, objective.transform.tokenizer, 32)
    expected = torch.stack([transform(image) for image in images()])
    for found in given(objective.model.visual, encoder):
        assert torch.equal(found, expected)
        assert found.stride() == expected.stride()


def test_moco_is_given_what_its_view_gives() -> None:
    objective = moco.make(Choice(name="tiny", options=TINY_MOCO["tiny"]), 0)
    encoder = objective.encoder()
    expected = torch.stack([encoder.view(image.convert("RGB")) for image in images()])
    for found in given(encoder.backbone, encoder):
        assert torch.equal(found, expected)
        assert found.stride() == expected.stride()
