"""A frozen open_clip model that turns images and captions into features, trained here or elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import transforms as tv

from benchmark.models.encoder import Tower, check_layer
from benchmark.models.fingerprints import encoder_fingerprint
from benchmark.models.pixels import floats_of, pixels_of


class ClipEncoder:
    """Both towers in eval mode (``benchmark.evaluate.Encoder``); the model's mode is put back after every call."""

    has_text = True
    model: Any  # open_clip's CLIP or CustomTextCLIP

    def __init__(
        self,
        model: nn.Module,
        image_transform: tv.Compose,
        tokenizer: Callable[[list[str]], Tensor],
        batch_size: int,
    ) -> None:
        """``image_transform`` is open_clip's to evaluate with, which ends in a tensor that is then normalised."""
        self.model, self.image_transform, self.tokenizer = model, image_transform, tokenizer
        self.batch_size = batch_size

    @property
    def logit_scale(self) -> float:
        """What the model multiplies cosines with before a softmax: 1 / temperature."""
        return float(self.model.logit_scale.detach().exp())

    def image_pixels(self, image: Image.Image) -> Tensor:
        """uint8 [H, W, 3]: ``image_transform`` up to the tensor."""
        for step in self.image_transform.transforms[:-2]:
            image = step(image)
        return pixels_of(image)

    def text_transform(self, caption: str) -> Tensor:
        """int64 [context_length]"""
        return self.tokenizer([caption])[0]

    def embed_images(self, pixels: Tensor, layer: str = "joint") -> np.ndarray:
        """What ``image_pixels`` gave, stacked: float32 [n, d], not normalised."""
        check_layer(layer)
        forward = self.model.encode_image if layer == "joint" else without_projection(self.model.visual)
        return self._embed(pixels, lambda images: forward(self._normalised(images)))

    def embed_texts(self, tokens: Tensor) -> np.ndarray:
        """What ``text_transform`` gave, stacked: float32 [n, d], not normalised."""
        return self._embed(tokens, self.model.encode_text)

    def encode_images(self, images: Sequence[Image.Image], layer: str = "joint") -> np.ndarray:
        return np.concatenate(
            [
                self.embed_images(
                    torch.stack([self.image_pixels(i) for i in images[k : k + self.batch_size]]), layer
                )
                for k in range(0, len(images), self.batch_size)
            ]
        )

    def trainable(self, layer: str = "joint") -> Tower:
        """The visual tower's copy; to train on it is augmented as open_clip does, by a crop of 0.9 to 1."""
        check_layer(layer)
        visual = self.model.visual
        module = copy.deepcopy(visual if layer == "joint" else without_projection(visual)).requires_grad_(True)
        size = visual.image_size
        size = (size, size) if isinstance(size, int) else tuple(size)
        mean = getattr(visual, "image_mean", None) or open_clip.OPENAI_DATASET_MEAN
        std = getattr(visual, "image_std", None) or open_clip.OPENAI_DATASET_STD
        return Tower(
            module,
            train_transform=open_clip.image_transform(size, is_train=True, mean=mean, std=std),
            eval_transform=self.image_transform,
            image_size=size,
            mean=tuple(mean),
            std=tuple(std),
            is_transformer=not any(isinstance(m, _BatchNorm) for m in module.modules()),
            logit_scale=self.logit_scale,
        )

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.concatenate(
            [
                self.embed_texts(self.tokenizer(list(texts[k : k + self.batch_size])))
                for k in range(0, len(texts), self.batch_size)
            ]
        )

    def fingerprint(self) -> str:
        """A hash of weights, transform, tokenizer and kind of device: all that a feature follows from."""
        return encoder_fingerprint(self.model, self.image_transform, self.tokenizer)

    def _normalised(self, pixels: Tensor) -> Tensor:
        """uint8 [b, H, W, 3] -> float32 [b, 3, H, W]: bit for bit what ``image_transform`` gives of each image."""
        *_, to_tensor, normalise = self.image_transform.transforms
        assert isinstance(to_tensor, tv.ToTensor)
        # a GPU multiplies by the inverse of a number, but divides by a tensor, as the host does by either
        return normalise(floats_of(pixels).div_(torch.tensor(255.0, device=pixels.device)))

    def _embed(self, batch: Tensor, forward: Callable[[Tensor], Tensor]) -> np.ndarray:
        device = next(self.model.parameters()).device
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                return forward(batch.to(device)).float().cpu().numpy()
        finally:
            self.model.train(was_training)


def without_projection(visual: Any) -> Any:
    """The visual tower up to its last projection: another view of the same weights, not a copy.

    A transformer loses ``proj``; a tower of timm its head, but for a pooling there. open_clip's ModifiedResNet
    ends in an attention pooling, which is all of its projection: it stays whole. CLIP's paper takes features
    before the projection from its transformers alone (arXiv 2103.00020, A.3).
    """
    view = _view(visual)
    if isinstance(getattr(visual, "trunk", None), nn.Module):  # open_clip's TimmModel
        head = view._modules["head"] = _view(visual.head)
        for name in ("drop", "proj", "mlp"):
            head._modules.pop(name, None)
        if not len(visual.head) and visual.trunk.num_classes:  # the trunk's classifier projects
            view._modules["trunk"] = _BeforeClassifier(visual.trunk)
    elif isinstance(getattr(visual, "proj", None), Tensor):
        view._parameters["proj"] = None
    return view


class _BeforeClassifier(nn.Module):
    """A network of timm up to its classifier."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.trunk.forward_head(self.trunk.forward_features(images), pre_logits=True)
        return features


def _view(module: nn.Module) -> Any:
    """A module of the same parts, some of which may then be left out without touching the original's."""
    view = copy.copy(module)
    for part in ("_parameters", "_modules"):
        view.__dict__[part] = dict(module.__dict__[part])
    return view
