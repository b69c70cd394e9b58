"""CLIP through open_clip: its models, tokenizer and transforms, with a loss a sample and direction.

Letters in shapes: b pairs on this rank, B in the global batch, d embedding width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from benchmark import dist
from benchmark.config.run import Choice
from benchmark.models.clip import mini_swin  # noqa: F401 (mini_swin adds to timm's names)
from benchmark.models.clip.encoder import ClipEncoder
from benchmark.models.clip.transform import PIXEL_MEAN, PIXEL_STD, ClipTransform, normalised
from benchmark.models.objective import (
    Objective,
    Tensors,
    cross_entropy,
    fp32_product,
    frozen_batch_statistics,
    mark_of_draws,
    micro_batches,
    precision_of_logits,
    refuse_batch_norm,
    with_negatives_weighed,
)
from benchmark.options import ConfigError
from benchmark.seeds import seed_of

MAX_LOGIT_SCALE = math.log(100)
"""The temperature stays at or above 0.01 (arXiv 2103.00020, section 2.5)."""


def make(choice: Choice, seed: int) -> Clip:
    """Build the model, initialised from ``seed`` alone. Raises ConfigError if open_clip cannot build it."""
    config = config_of(choice)
    cls = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(seed, "init"))
        try:
            model = cls(**config)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"model {choice.name}: open_clip cannot build it: {error}") from error
    return Clip(model, context_length=int(config["text_cfg"].get("context_length", 77)))


def config_of(choice: Choice) -> dict[str, Any]:
    """A model as open_clip's configuration files say it: its own options, or those of open_clip's name; a copy."""
    config: dict[str, Any] = copy.deepcopy(choice.options) or open_clip.get_model_config(choice.name)
    return config


class Clip(Objective):
    """The symmetric InfoNCE loss over the global batch (arXiv 2103.00020, figure 3)."""

    has_text = True
    direction_factor = 0.5
    model: Any  # open_clip's CLIP or CustomTextCLIP
    transform: ClipTransform
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, model: nn.Module, context_length: int) -> None:
        super().__init__()
        self.model = model
        self.transform = ClipTransform(self.model.visual.image_size, context_length)
        # on the device once, since to send them in each forward would wait for it; not in state_dict
        self.register_buffer("pixel_mean", PIXEL_MEAN.clone(), persistent=False)
        self.register_buffer("pixel_std", PIXEL_STD.clone(), persistent=False)

    def forward(self, tensors: Tensors, *, log_negative: Tensor | None = None, features_only: bool = False) -> Any:
        """Losses [b, 2] of images and of texts; or normalised features [b, d] twice and the logit scale."""
        images, tokens = tensors
        features = (
            self.model.encode_image(normalised(images, self.pixel_mean, self.pixel_std), normalize=True),
            self.model.encode_text(tokens, normalize=True),
            self.model.logit_scale.exp(),
        )
        return features if features_only else self._losses(*features, log_negative)

    def scored(
        self,
        tensors: Tensors,
        log_negative: Tensor | None,
        autocast: Callable[[], AbstractContextManager[Any]],
        at_once: int,
    ) -> tuple[Tensor, Tensor]:
        parts = zip(*(t.split(at_once) for t in tensors), strict=True)
        with torch.no_grad(), frozen_batch_statistics(self):
            with autocast():
                images, texts, scales = zip(*(self(part, features_only=True) for part in parts), strict=True)
            of_images, of_texts = torch.cat(images).float(), torch.cat(texts).float()  # [b, d]
            with autocast():
                losses = self._losses(of_images, of_texts, scales[0], log_negative)
            return losses, (of_images * of_texts).sum(dim=1)

    def checkpoint_activations(self) -> None:
        refuse_batch_norm(self.model)
        self.model.set_grad_checkpointing()

    def decay_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """As open_clip: no decay of gains, biases, normalisation layers and the temperature."""
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        exempt = [p.ndim < 2 or any(s in name for s in ("bn", "ln", "bias", "logit_scale")) for name, p in named]
        decayed = [p for (_, p), free in zip(named, exempt, strict=True) if not free]
        return decayed, [p for (_, p), free in zip(named, exempt, strict=True) if free]

    def after_step(self) -> None:
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)

    def backward(
        self,
        model: Callable[..., Any],
        tensors: Tensors,
        weight: Tensor | None,
        scale: Callable[[Tensor], Tensor],
        autocast: Callable[[], AbstractContextManager[Any]],
        accumulate: int,
        log_negative: Tensor | None = None,
    ) -> Tensor:
        """With ``accumulate`` > 1 features are computed twice, so that every micro-batch sees all negatives.

        The gradient is that of the whole batch (gradient caching, arXiv 2101.06983): a micro-batch draws the same
        dropout both times, and its batch statistics are taken in once.
        """
        if accumulate == 1:
            return super().backward(model, tensors, weight, scale, autocast, accumulate, log_negative)
        parts = list(micro_batches(tensors, accumulate))
        rewinds, cached = [], []
        with torch.no_grad(), autocast(), frozen_batch_statistics(self):
            for part in parts:
                rewinds.append(mark_of_draws(part[0].device))
                cached.append(model(part, features_only=True))
        images = torch.cat([f[0] for f in cached]).requires_grad_()  # [b, d]
        texts = torch.cat([f[1] for f in cached]).requires_grad_()
        logit_scale = cached[0][2].clone().requires_grad_()
        with autocast():
            losses = self._losses(images, texts, logit_scale, log_negative)
        scale(self.reduce(losses, weight)).backward()
        assert images.grad is not None
        assert texts.grad is not None
        passes = zip(parts, rewinds, images.grad.chunk(accumulate), texts.grad.chunk(accumulate), strict=True)
        for i, (part, rewind, image_gradient, text_gradient) in enumerate(passes):
            rewind()
            last = i == accumulate - 1
            with nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync():
                with autocast():
                    features = model(part, features_only=True)
                scale_gradient = logit_scale.grad if last else torch.zeros_like(logit_scale)
                torch.autograd.backward(features, (image_gradient, text_gradient, scale_gradient))
        return losses.detach()

    def _losses(self, images: Tensor, texts: Tensor, logit_scale: Tensor, log_negative: Tensor | None) -> Tensor:
        if self.feature_gradient == "mean":
            take_mean_gradient(images)
            take_mean_gradient(texts)
        return contrastive_losses(images, texts, logit_scale, log_negative, self.logits)

    def encoder(self, batch_size: int = 256) -> ClipEncoder:
        transform = open_clip.image_transform(self.model.visual.image_size, is_train=False)
        return ClipEncoder(self.model, transform, self.transform.tokenizer, batch_size)


def take_mean_gradient(features: Tensor) -> None:
    """Divide what flows back into these features by the number of ranks.

    open_clip's default gather passes no gradient between ranks, each of which takes the loss of the global batch:
    a feature's gradient is whole on its rank, and averaging gradients over ranks then divides it by their number.
    That of the temperature, whole on every rank, stays.
    """
    if features.requires_grad:
        features.register_hook(lambda gradient: gradient / dist.world())


def contrastive_losses(
    images: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    log_negative: Tensor | None = None,
    logits_in: str = "fp32",
) -> Tensor:
    """Normalised features [b, d] of this rank -> float32 [b, 2]: image->text, text->image.

    ``logits_in`` is ``fp32`` or, for the precision of the pass, ``autocast``. ``log_negative``, float32 [b], is
    added to a pair's logit in the rows of all other pairs.
    """
    with precision_of_logits(logits_in, images.device):
        # DEVIATION(feature_gradient): features get gradient from the losses of all ranks, which gives the global
        # batch's; open_clip's default gather, as published, gives 1 / ranks of it to the towers
        images, texts, logit_scale = images.float(), texts.float(), logit_scale.float()
        all_images, all_texts = dist.gather_with_gradient(images), dist.gather_with_gradient(texts)  # [B, d]
        labels = torch.arange(len(images), device=images.device) + dist.rank() * len(images)
        pairs = ((images, all_texts), (texts, all_images))
        logits = [fp32_product(logit_scale * x, of_all.T) for x, of_all in pairs]  # [b, B] each
        weighed = [with_negatives_weighed(x, log_negative, labels) for x in logits]
        return torch.stack([cross_entropy(x, labels) for x in weighed], dim=1)
