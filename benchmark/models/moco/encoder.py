"""MoCo's backbone as a frozen encoder.

Letters in shapes: b images on this rank, n images in all, w backbone width.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmark.models.encoder import Tower, check_layer
from benchmark.models.fingerprints import encoder_fingerprint
from benchmark.models.moco.options import MocoModel
from benchmark.models.moco.views import IMAGENET_MEAN, IMAGENET_STD, plain_view, probe_view
from benchmark.models.pixels import floats_of, pixels_of


class BackboneEncoder:
    """A frozen backbone; the module's mode is put back after every call."""

    has_text = False
    logit_scale = None

    def __init__(self, backbone: nn.Module, options: MocoModel, batch_size: int) -> None:
        self.backbone, self.options, self.batch_size = backbone, options, batch_size
        self.view = plain_view(options.image_size, options.eval_crop)

    def image_pixels(self, image: Image.Image) -> Tensor:
        """uint8 [H, H, 3]: ``view`` up to the tensor."""
        image = image.convert("RGB")
        for step in self.view.transforms[:-1]:
            image = step(image)
        return pixels_of(image)

    def embed_images(self, pixels: Tensor, layer: str = "joint") -> np.ndarray:
        """What ``image_pixels`` gave, stacked: float32 [n, w], not normalised; both layers are the same."""
        check_layer(layer)
        was_training = self.backbone.training
        self.backbone.eval()
        try:
            with torch.inference_mode():
                images = normalised(pixels.to(next(self.backbone.parameters()).device))
                return self.backbone(images).float().cpu().numpy()
        finally:
            self.backbone.train(was_training)

    def encode_images(self, images: Sequence[Image.Image], layer: str = "joint") -> np.ndarray:
        """float32 [n, w], not normalised; both layers are the backbone's output."""
        return np.concatenate(
            [
                self.embed_images(
                    torch.stack(
                        [
                            self.image_pixels(images[i])
                            for i in range(start, min(start + self.batch_size, len(images)))
                        ]
                    ),
                    layer,
                )
                for start in range(0, len(images), self.batch_size)
            ]
        )

    def trainable(self, layer: str = "joint") -> Tower:
        """The backbone's copy; a patch projection and positions that were kept fixed can be trained again."""
        check_layer(layer)
        size = self.options.image_size
        return Tower(
            copy.deepcopy(self.backbone).requires_grad_(True),
            train_transform=probe_view(size, self.options.flip),
            eval_transform=self.view,
            image_size=(size, size),
            mean=tuple(IMAGENET_MEAN.ravel().tolist()),
            std=tuple(IMAGENET_STD.ravel().tolist()),
            is_transformer=self.options.backbone == "vit",
        )

    def fingerprint(self) -> str:
        """A hash of weights, transform and kind of device: all that a feature follows from."""
        return encoder_fingerprint(self.backbone, self.view)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        raise ValueError("MoCo v3 has no text encoder: choose tasks on images alone")


def normalised(pixels: Tensor) -> Tensor:
    """uint8 [b, H, H, 3] -> float32 [b, 3, H, H]: bit for bit what ``views.to_tensor`` gives of each image."""
    constants = 1 / (255 * IMAGENET_STD), IMAGENET_MEAN / IMAGENET_STD
    scale, shift = (torch.from_numpy(values).to(pixels.device) for values in constants)
    return floats_of(pixels).mul_(scale).sub_(shift)
